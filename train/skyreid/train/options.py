"""What a recipe may set: tables checked for names, types and ranges as soon as they are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    return found
