"""Own people told by their folders and names: `footage/{view}/{person}/{camera}_*`.

A field in braces stands for a part of a folder's or file's name, `*` for a part that says nothing.
The ending of a picture's name is not part of a pattern.
"""

from __future__ import annotations

import re
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data.own import SPLITS, VIEWS, Row
from skyreid.train.data.picture_files import SUFFIXES, is_picture, looks_like_picture, walk

FIELDS = ("person", "camera", "view", "split", "tracklet", "altitude_m")

_TOKEN = re.compile(r"(\{[^{}]*\}|\*)")


def is_pattern(path: Path) -> bool:
    """Whether what a user names is a pattern and no folder."""
    return "{" in str(path)


def divided(path: Path) -> tuple[Path, str]:
    """The folder that a pattern begins with, and the rest."""
    parts = path.parts
    first = next(i for i, part in enumerate(parts) if "{" in part or "*" in part)
    return Path(*parts[:first]), "/".join(parts[first:])


def read(
    root: Path, pattern: str
) -> tuple[list[Row], dict[str, list[Path]], dict[str, list[Path]]]:
    """The rows of the pictures below a folder; what is refused and left out, by reason.

    Raises:
        InputError: when the pattern cannot be understood, or the folder cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}")
    matches = _compiled(pattern)
    rows: list[Row] = []
    refused: dict[str, list[Path]] = {}
    left_out: dict[str, list[Path]] = {}
    for path in walk(root):
        if not is_picture(path):
            looks = looks_like_picture(path)
            heap, reason = (refused, "ending") if looks else (left_out, "no picture")
            heap.setdefault(reason, []).append(path)
            continue
        found = matches.fullmatch(path.relative_to(root).with_suffix("").as_posix())
        if found is None:
            refused.setdefault("pattern", []).append(path)
        else:
            rows.append(Row(path, **{k: v.strip() for k, v in found.groupdict().items()}))
    return rows, refused, left_out


def guessed(root: Path) -> str | None:
    """The pattern of a plain folder of people: `[{split}/][{view}/]{person}/[{camera}/]*`.

    Split and view are seen where all folders of a level are called so. None where it is no such
    folder, or where people are all that its folders tell.
    """
    some = [path.relative_to(root).parts for path in walk(root) if is_picture(path)]
    if not some:
        return None
    depth, level = len(some[0]), 0
    lead: list[str] = []
    for field, words in (("split", SPLITS), ("view", VIEWS)):
        if depth > level + 2 and all(
            len(parts) > level and parts[level].lower() in words for parts in some
        ):
            lead.append(f"{{{field}}}")
            level += 1
    rest = {2: ["{person}", "*"], 3: ["{person}", "{camera}", "*"]}.get(depth - level)
    if rest is None or not {"{view}", "{camera}"} & {*lead, *rest}:
        return None
    return "/".join([*lead, *rest])


def _compiled(pattern: str) -> re.Pattern[str]:
    """What a picture's path, without its ending, has to be like.

    Raises:
        InputError: naming the field that is unknown, given twice, missing or without an end.
    """
    for suffix in SUFFIXES:
        if pattern.lower().endswith(suffix):
            pattern = pattern[: -len(suffix)]
    made, fields, before = "", [], ""
    for token in filter(None, _TOKEN.split(pattern)):
        name = token[1:-1]
        is_open = token == "*" or token.startswith("{")
        if is_open and before:
            raise InputError(
                f"pattern {pattern}: {before} and {token} stand side by side, so that nothing says "
                "where one ends; put what is between them in the names"
            )
        if token == "*":
            made += "[^/]*"
        elif token.startswith("{"):
            if name not in FIELDS or name in fields:
                raise InputError(
                    f"pattern {pattern}: {token} is "
                    + ("there twice" if name in fields else f"no field; they are {_spelled()}")
                )
            fields.append(name)
            made += f"(?P<{name}>[^/]+?)"
        else:
            made += re.escape(token)
        before = token if is_open else ""
    if "person" not in fields or not {"camera", "view"} & set(fields):
        raise InputError(
            f"pattern {pattern} needs {{person}}, and {{camera}} or {{view}}; "
            f"there may be {_spelled()}"
        )
    return re.compile(made)


def _spelled() -> str:
    return ", ".join(f"{{{field}}}" for field in FIELDS)
