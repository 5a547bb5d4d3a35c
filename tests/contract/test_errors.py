"""How a command ends: one line, the contract's exit code."""

import subprocess
import sys

import pytest

from skyreid.contract.errors import (
    BundleError,
    GateError,
    InputError,
    MessageError,
    PlatformError,
    SettingsError,
    SkyreidError,
    run_command,
)


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
