"""What is installed where: a wheel holds its room and no other, and every install line works."""

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHEELS = ("contract", "bundle", "edge", "server")
"""Rooms that have a wheel of their own: what runs where no training code may be."""

INSTALLS = re.compile(r"pip3? (?:install|wheel) ([^`\n|>&]+)")
PATH = re.compile(r"(\.[\w./-]*)(?:\[([\w,-]+)\])?$")


def project(repository: Path, room: str) -> dict[str, Any]:
    """The ``[project]`` of a room's pyproject.toml; of the root's for ``.``."""
    found: dict[str, Any] = tomllib.loads((repository / room / "pyproject.toml").read_text())
    return found["project"]


def files_below(repository: Path, folder: str) -> set[str]:
    """What git tracks or would, below ``folder``, by the path from there."""
    return set(
        subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
            cwd=repository / folder, capture_output=True, text=True, check=True,
        ).stdout.splitlines()
    )  # fmt: skip


@pytest.mark.parametrize("room", WHEELS)
def test_a_wheel_holds_its_room_and_nothing_else(
    room: str, repository: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=repository / room, capture_output=True, check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
        (licence,) = [n for n in opened.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
        assert opened.read(licence) == (repository / "LICENSE").read_bytes()
    assert {name.split("/")[1] for name in names} == {room}
    assert names == {f for f in files_below(repository, room) if f.startswith("skyreid/")}


def test_what_a_room_needs_is_the_same_alone_and_in_the_whole_house(repository: Path) -> None:
    whole = project(repository, ".")
    extras = whole["optional-dependencies"]
    rooms = {room: project(repository, room) for room in WHEELS}
    foreign = {
        room: {d for d in found["dependencies"] if not d.startswith("skyreid-")}
        for room, found in rooms.items()
    }
    assert foreign == {
        "contract": set(whole["dependencies"]),
        "bundle": set(),
        "edge": set(extras["edge"]),
        "server": set(extras["server"]),
    }
    for room, found in rooms.items():
        assert found["version"] == whole["version"]
        assert found["requires-python"] == whole["requires-python"]
        for extra, needs in found.get("optional-dependencies", {}).items():
            assert needs == extras[extra], f"{room}[{extra}]"
        for command, entry in found.get("scripts", {}).items():
            assert whole["scripts"][command] == entry
        for need in map(Requirement, found["dependencies"]):
            if need.name.startswith("skyreid-"):
                assert str(need.specifier) == f"=={whole['version']}", f"{room}: {need}"


def shown(repository: Path) -> dict[str, list[str]]:
    """Every install line of pages, scripts and images, by file, in one line each."""
    files = subprocess.run(
        ["git", "ls-files", "*.md", "docker/*", "scripts/*"],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    texts = {name: (repository / name).read_text().replace("\\\n", " ") for name in files}
    return {name: found for name, text in texts.items() if (found := INSTALLS.findall(text))}


def test_every_install_line_names_what_is_there(repository: Path) -> None:
    """There is no index to install skyreid from: it is installed by paths of the checkout."""
    lines = shown(repository)
    assert {"README.md", "edge/README.md", "docker/edge.Dockerfile", "scripts/setup"} <= set(lines)
    wrong = []
    for name, found in lines.items():
        for line in found:
            words = shlex.split(line.strip().rstrip('".,;)'))
            paths = [match for word in words if (match := PATH.match(word))]
            rooms = {path[1].removeprefix("./") for path in paths}
            for path in paths:
                if not (repository / path[1] / "pyproject.toml").is_file():
                    wrong.append(f"{name}: {path[1]} is not to be installed")
                    continue
                known = project(repository, path[1])
                for extra in filter(None, (path[2] or "").split(",")):
                    if extra not in known.get("optional-dependencies", {}):
                        wrong.append(f"{name}: {path[1]} has no extra {extra}")
                for need in map(Requirement, known["dependencies"]):
                    ours = need.name.startswith("skyreid-")
                    if ours and need.name.removeprefix("skyreid-") not in rooms:
                        wrong.append(f"{name}: {path[1]} needs {need.name} in the same line")
            wrong += [
                f"{name}: {word} is on no index" for word in words if word.startswith("skyreid")
            ]
    assert wrong == []


def test_an_image_copies_what_it_installs(repository: Path) -> None:
    images = sorted((repository / "docker").glob("*.Dockerfile"))
    assert images
    for image in images:
        text = image.read_text().replace("\\\n", " ")
        copied = {
            word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()
        }
        assert all((repository / path).exists() for path in copied), image.name
        installed = {
            match[1].removeprefix("./")
            for line in INSTALLS.findall(text)
            for word in shlex.split(line)
            if (match := PATH.match(word))
        }
        assert installed, image.name
        assert installed <= copied, image.name
        if "." not in copied:
            assert "LICENSE" in copied, f"{image.name}: the wheels' licence is a link to it"
