"""``[access]`` of the settings: how much one token may ask for."""

from __future__ import annotations

from pydantic import Field

from skyreid.contract.settings import Section


class AccessOptions(Section):
    """What one token may ask for in a minute; more is 429."""

    searches_per_min: int = Field(60, ge=1)
    """By one token: searches by looks (``/v1/similar``), for a person or a camera; pages of all."""
    pictures_per_min: int = Field(1_200, ge=1)
    """Pictures of people, by one token; a page that opens asks for up to 400 at once."""
