"""What the product uses of OpenCV is in the installed one; scripts/opencv-range tries others."""

import ast
import re
from pathlib import Path

import cv2

ROOMS = ("contract", "bundle", "train", "export", "edge", "server")


def names(path: Path) -> set[str]:
    """`cv2.A.B` in a file, as "A.B"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id == "cv2":
            found.add(".".join(parts))
    return found


def has(name: str) -> bool:
    thing = cv2
    for part in name.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


def test_every_name_of_opencv_that_is_used_is_there(repository: Path) -> None:
    used = {
        name: path.relative_to(repository)
        for room in ROOMS
        for path in sorted((repository / room).rglob("*.py"))
        for name in names(path)
    }
    assert len(used) > 20
    assert not {name: path for name, path in used.items() if not has(name)}
    assert not has("IMREAD_NO_SUCH_THING")


def test_the_range_that_is_tried_is_the_range_that_is_declared(repository: Path) -> None:
    script = (repository / "scripts" / "opencv-range").read_text()
    tried = re.search(r"^VERSIONS=\(([^)]*)\)", script, re.MULTILINE)
    assert tried is not None
    oldest = tried[1].split()[0].split(".")[:2]
    for path in [repository / "pyproject.toml", *repository.glob("*/pyproject.toml")]:
        for declared in re.findall(r"opencv-python-headless([^\"]*)\"", path.read_text()):
            assert declared == f">={'.'.join(oldest)}", path
