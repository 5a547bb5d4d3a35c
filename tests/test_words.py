"""One search for the field's word finds the file; files are short, and named for one idea."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("contract", "bundle", "train", "export", "edge", "server")
LINES_MAX = 400
NAMED_FOR_NOTHING = {"utils", "util", "common", "helpers", "manager", "misc", "base", "core"}


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [path for name in sorted(names) if (path := ROOT / name).is_file()]


def first_lines() -> dict[str, str]:
    """Of every module of ours, ``role/part.py`` -> the first line of its docstring."""
    found = {}
    for path in tracked(*(f"{room}/skyreid/**/*.py" for room in ROOMS)):
        role, _, name, *rest = path.relative_to(ROOT).parts
        short = "/".join((role, *rest)) if role == name else "/".join((name, *rest))
        found[short] = path.read_text().split("\n", 1)[0]
    return found


def rows(heading: str) -> list[tuple[str, ...]]:
    """The table of docs/words.md under a heading."""
    part = (ROOT / "docs" / "words.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    return [tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in lines]


FIELD = rows("The field's, and the file that is it")
PLACES = rows("Ten places")


@pytest.mark.parametrize(("word", "file"), FIELD, ids=[row[0] for row in FIELD])
def test_a_word_of_the_field_is_in_the_first_line_of_the_file_that_is_it(
    word: str, file: str
) -> None:
    hits = [
        name
        for name, line in first_lines().items()
        if re.search(rf"\b{re.escape(word)}\b", line, re.IGNORECASE)
    ]
    assert file in hits
    assert len(hits) <= 2, f"{word!r} leads to {hits}"


@pytest.mark.parametrize(("where", "word", "file"), PLACES, ids=[row[1] for row in PLACES])
def test_a_newcomer_finds_the_place_by_one_search(where: str, word: str, file: str) -> None:
    hits = [
        name
        for name, line in first_lines().items()
        if re.search(rf"\b{re.escape(word)}\b", line, re.IGNORECASE)
    ]
    assert file in hits, where
    assert len(hits) <= 3, f"{word!r} leads to {hits}"


def test_no_file_is_long() -> None:
    """A file beyond it has two ideas in it."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py")
        if not re.search(r"_pb2\.pyi?$", path.name)
        and (count := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_no_file_is_named_for_nothing() -> None:
    assert [p for p in tracked("*.py", "*.js") if p.stem.lower() in NAMED_FOR_NOTHING] == []
