"""What a user may set of who came back; also a section of the settings."""

from __future__ import annotations

from pydantic import Field

from skyreid.contract.settings import Section


class PeopleOptions(Section):
    """How sure is sure enough that somebody came back. Defaults are measured (docs/LOG.md)."""

    returns: bool = True
    """Whether who comes is compared with who had left; without it everybody is new after
    ``matching.window_s``."""
    fpir: float = Field(0.01, gt=0, lt=1)
    """Accepted rate of people who come for the first time and are taken for one who had left."""
    suggest_from: float = Field(0.5, gt=0, lt=1)
    """Probability from which a return is told at all, as tentative."""
    half_life_h: float = Field(8.0, gt=0, le=1e4)
    """Hours after which half of those who come back look different: clothes change."""
    looks_h: float = Field(24.0, gt=0, le=1e4)
    """Hours after which looks alone are a suggestion, however alike."""
