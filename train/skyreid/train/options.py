"""What a recipe may set: tables checked for names, types and ranges as soon as they are made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import ConfigDict

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Section


class Options(Section):
    """A table of a recipe. Numbers are finite and never read from text."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def fields(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` words of a command line; a value is JSON where it can be read so, else text.

    Raises:
        SettingsError: for a word without `=`, or a key that is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise SettingsError(f"{pair!r} is not KEY=VALUE")
        if key in found:
            raise SettingsError(f"{key} is given twice, as {found[key]!r} and {value!r}: leave one")
        found[key] = _read(value)
    return found


def taken_out(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without, and the `--section.key value` of it, which set a recipe's values."""
    rest: list[str] = []
    words: list[str] = []
    following = iter(argv)
    for word in following:
        if _OVERRIDE.match(word):
            words += [word] if "=" in word else [word, *islice(following, 1)]
        else:
            rest.append(word)
    return rest, words


def overridden(table: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A recipe's table with other values: `--section.key value` or `--section.key=value` each.

    A value is JSON where it can be read so, else text. Of `run.steps` and `run.epochs` the one that
    is given replaces the other.

    Raises:
        SettingsError: for a key without value, or one that stands below no table.
    """
    found: dict[str, Any] = json.loads(json.dumps(table, default=str)) if words else dict(table)
    following = iter(words)
    for word in following:
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = next(following, "")
        if not value:
            raise SettingsError(f"--{name}: a value is missing, as --{name} 2000")
        *above, key = name.split(".")
        section = found
        for part in above:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise SettingsError(f"--{name}: {part} is a value in the recipe and no table")
        section[key] = _read(value)
        if above == ["run"] and key in _LENGTHS:
            for other in _LENGTHS - {key}:
                section.pop(other, None)
    return found


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


_OVERRIDE = re.compile(r"--[a-z_0-9]+(\.[a-z_0-9]+)+(=|$)")
_LENGTHS = {"steps", "epochs"}
