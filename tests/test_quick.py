"""`scripts/test --quick` leaves out what takes long, and no room of the house."""

import shutil
import subprocess
from pathlib import Path

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


def test_quick_runs_no_check_and_passes_the_rest_on(repository: Path, tmp_path: Path) -> None:
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
