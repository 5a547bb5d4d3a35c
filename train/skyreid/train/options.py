"""What a recipe may set: tables checked for names, types and ranges as soon as they are made."""

from __future__ import annotations

from pydantic import ConfigDict

from skyreid.contract.settings import Section


class Options(Section):
    """A table of a recipe. Numbers are finite and never read from text."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
