"""`scripts/test --quick` leaves out what takes long, and no room of the house."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = "server/page"  # every test of it starts one
PYTHON = """#!/bin/bash
printf '%s\\n' "$@"
"""


def test_what_is_marked_slow_is_there_and_every_room_keeps_a_quick_test(repository: Path) -> None:
    tests = repository / "tests"
    slow = [tests / name for name in (tests / "slow.txt").read_text().split()]
    assert [place for place in slow if not place.exists()] == []
    rooms, quick = set(), set()
    for path in tests.glob("*/**/test_*.py"):
        rooms.add(path.parent)
        if not any(path.is_relative_to(place) for place in slow):
            quick.add(path.parent)
    assert rooms - quick == {tests / "e2e", tests / BROWSER}


def test_quick_runs_no_check_and_passes_the_rest_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKYREID_TEST_PROCESSES", raising=False)
    (tmp_path / "scripts").mkdir()
    shutil.copy(repository / "scripts/test", tmp_path / "scripts/test")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in {
        "scripts/setup": "#!/bin/bash\n",
        "scripts/check": "#!/bin/bash\necho checked\n",
        ".venv/bin/python": PYTHON,
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def said(*arguments: str) -> list[str]:
        command = [str(tmp_path / "scripts/test"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )

    assert said("--quick", "tests/edge")[:-1] == ["-m", "pytest", "-m", "not slow", "tests/edge"]
    assert said("tests/edge")[:-1] == ["checked", "-m", "pytest", "tests/edge"]
    side_by_side = ["-n", "auto", "--dist", "loadfile", "--ignore=tests/e2e"]
    assert said("--quick")[:-1] == ["-m", "pytest", "-m", "not slow", *side_by_side]
    whole_sites = ["-m", "pytest", "tests/e2e"]
    assert said()[:-1] == ["checked", "-m", "pytest", *side_by_side, *whole_sites]


def test_one_failure_anywhere_fails_the_whole_run(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(repository / "scripts/test", tmp_path / "scripts/test")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("scripts/setup", "scripts/check", ".venv/bin/python"):
        (tmp_path / name).write_text("#!/bin/bash\n")
        (tmp_path / name).chmod(0o755)
    for first, second, whole in ((0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 1, 1)):
        python = tmp_path / ".venv/bin/python"
        python.write_text(
            f'#!/bin/bash\ncase "$*" in *--ignore*) exit {first};; esac; exit {second}'
        )
        assert subprocess.run([str(tmp_path / "scripts/test")]).returncode == whole
