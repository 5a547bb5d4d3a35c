"""How a command ends: one line, the contract's exit code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from skyreid.contract.errors import (
    BundleError,
    GateError,
    InputError,
    MessageError,
    PlatformError,
    SettingsError,
    SkyreidError,
    reason,
    run_command,
)

TREE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SkyreidError("x"), 1),
        (InputError("x"), 2),
        (SettingsError("x"), 2),
        (BundleError("x"), 2),
        (MessageError("parse", "x"), 2),
        (GateError("x"), 3),
        (PlatformError("x"), 4),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(
    error: SkyreidError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise type(error)(*error.args) if not isinstance(error, MessageError) else error

    assert run_command(fail) == code
    err = capsys.readouterr().err
    assert err.startswith("error (")
    assert err.count("\n") == 1


def test_success_passes_the_commands_code_through() -> None:
    assert run_command(lambda: 0) == 0


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "import sys\nfrom skyreid.contract.errors import run_command\n"
        "def main():\n    for i in range(100000): print(i)\n    return 1\n"
        "sys.exit(run_command(main))"
    )
    shell = f"{sys.executable} -c '{code}' | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "package"), [("cv2", "opencv-python-headless"), ("onnxruntime", "onnxruntime")]
)
def test_a_library_that_an_extra_brings_is_named_and_is_exit_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    def command() -> int:
        raise ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.part")

    assert run_command(command) == 4
    said = capsys.readouterr().err
    assert (
        f"error (platform): python module {module} is not installed: pip install {package}" in said
    )
    assert said.count("\n") == 1
    monkeypatch.setenv("SKYREID_TRACEBACK", "1")
    with pytest.raises(ModuleNotFoundError):
        run_command(command)


def test_a_module_of_ours_that_is_missing_is_a_defect_and_not_an_extra() -> None:
    def command() -> int:
        raise ModuleNotFoundError("No module named 'skyreid.nowhere'", name="skyreid.nowhere")

    with pytest.raises(ModuleNotFoundError):
        run_command(command)


def test_a_line_that_names_a_file_says_neither_its_number_nor_its_name_again(
    tmp_path: Path,
) -> None:
    def wrong(path: Path) -> OSError:
        with pytest.raises(OSError, match="No such file") as raised:
            path.read_bytes()
        return raised.value

    file = tmp_path / "table.csv"
    assert reason(wrong(file), file) == "No such file or directory"
    assert reason(wrong(file), str(file)) == "No such file or directory"
    # One of a folder's is named: else nobody knows which.
    assert reason(wrong(file), tmp_path) == f"{file}: No such file or directory"
    assert reason(OSError("no address"), file) == "no address"
    assert reason(ValueError("row 3: no number"), file) == "row 3: no number"
    assert reason(KeyError("pid"), file) == "it has no 'pid'"
    assert reason(EOFError(), file) == "EOFError"


def test_no_message_shows_the_number_of_an_error() -> None:
    """``[Errno 2] No such file or directory: 'x'`` after a path is that path twice."""
    rooms = ("contract", "bundle", "train", "export", "edge", "server", "scripts")
    handlers, found = 0, []
    for path in sorted(file for room in rooms for file in (TREE / room).rglob("*.py")):
        for handler in ast.walk(ast.parse(path.read_text())):
            if not isinstance(handler, ast.ExceptHandler) or handler.type is None:
                continue
            names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)}
            # What cannot be imported is told as it is: the file is the library's.
            if "OSError" not in names or "ImportError" in names:
                continue
            handlers += 1
            found += [
                f"{path.relative_to(TREE)}:{said.lineno}"
                for raised in ast.walk(handler)
                if isinstance(raised, ast.Raise)
                for said in ast.walk(raised)
                if isinstance(said, ast.FormattedValue)
                and isinstance(said.value, ast.Name)
                and said.value.id == handler.name
            ]
    assert handlers > 50
    assert found == []
