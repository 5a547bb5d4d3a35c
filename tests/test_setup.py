"""scripts/setup on a machine of stand-ins: what it installs, what it says, what it keeps quiet."""

import shutil
import subprocess
from pathlib import Path

import pytest

NOISE = "WARNING: Location '/gone' is ignored: it is either a non-existing path or lacks a scheme."
REASON = "skyreid depends on a-package-of-the-moon==7"

PATH = "/usr/bin:/bin"
STAND_INS = {
    "dpkg-query": """
        shift 3
        for name; do
          case " $MISSING ,$name" in *" $name "* | *t64 | *-2.0-dev) ;; *) echo installed ;; esac
        done; exit 1""",
    "apt-get": 'echo "$*" >> "$CALLS"; echo "debconf: delaying configuration" >&2',
    "apt-cache": 'case "$2" in *t64 | "$RENAMED") exit 100 ;; esac',
    "pkg-config": "",
    "dpkg-deb": """
        [ -z "${UNPACKS:-}" ] && exit 1
        mkdir -p usr/bin && touch usr/bin/promtool""",
    "id": "echo 0",
    "python3": """
        [ "$1" = --version ] && { echo Python 3.11.2; exit; }
        mkdir -p .venv/bin && cp "$(dirname "$0")/pip" .venv/bin/python""",
    "pip": f"""
        echo "$*" >> "$CALLS"; echo "{NOISE}" >&2; echo Collecting numpy
        case "$*" in *-e*) [ -z "${{FAILS:-}}" ] || {{ echo "{REASON}"; exit 1; }} ;; esac""",
}
"""Programs by name; ``pip`` is what stands for .venv/bin/python."""


class Machine:
    """A checkout with scripts/setup and nothing real beside it."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.checkout = folder / "checkout"
        (self.checkout / "scripts").mkdir(parents=True)
        for name in ("pyproject.toml", "scripts/setup", "scripts/constraints.txt"):
            shutil.copy(repository / name, self.checkout / name)
        self._calls = folder / "calls"
        self._programs = folder / "bin"
        self._programs.mkdir()
        for name, body in STAND_INS.items():
            (self._programs / name).write_text(f"#!/bin/bash\n{body}\n")
            (self._programs / name).chmod(0o755)

    def setup(self, want: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.checkout / "scripts/setup"), want],
            capture_output=True, text=True, check=False,
            env={"PATH": f"{self._programs}:{PATH}", "CALLS": str(self._calls)}
            | environment,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def machine(repository: Path, tmp_path: Path) -> Machine:
    return Machine(repository, tmp_path)


def test_what_pip_and_apt_warn_of_is_not_shown(machine: Machine) -> None:
    done = machine.setup("dev", MISSING="mosquitto", UNPACKS="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (machine.checkout / ".venv/bin/promtool").exists() or shutil.which("promtool", path=PATH)
    assert done.stdout.splitlines() == [
        "installing system packages: mosquitto",
        "making a virtual environment in .venv with Python 3.11.2",
        "installing Python packages into .venv (dev)",
    ]


@pytest.mark.skipif(bool(shutil.which("promtool", path=PATH)), reason="promtool is installed")
def test_without_promtool_setup_goes_on_and_says_so(machine: Machine) -> None:
    done = machine.setup("dev")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "promtool could not be had: the test of server/alerts.yml that needs it skips"
    ]


def test_an_error_is_shown_whole_and_tried_again(machine: Machine) -> None:
    done = machine.setup("demo", FAILS="1")
    assert done.returncode == 1
    assert NOISE in done.stderr
    assert REASON in done.stderr
    assert machine.setup("demo").returncode == 0
    assert sum("-e" in call for call in machine.calls) == 2


def test_nothing_is_installed_twice(machine: Machine) -> None:
    machine.setup("demo")
    before = machine.calls
    done = machine.setup("demo")
    assert (done.stdout, done.stderr, machine.calls) == ("", "", before)


def test_a_package_goes_by_the_name_that_the_release_knows(machine: Machine) -> None:
    both = "libglib2.0-0 libgirepository1.0-dev"
    machine.setup("demo", MISSING=both)
    assert machine.calls[1].split()[-2:] == ["libgirepository1.0-dev", "libglib2.0-0"]
    machine.setup("demo", MISSING=both, RENAMED="libgirepository1.0-dev")
    installed = [call for call in machine.calls if "-2.0-dev" in call]
    assert len(installed) == 1


def test_a_new_system_is_not_tried_without_saying_where(repository: Path) -> None:
    done = subprocess.run(
        [repository / "scripts/try-fresh"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "sudo scripts/try-fresh DIR " in done.stderr
