"""What a user may set of how sightings become identities; also a section of the settings.

Measured constants are not here but beside the code that uses them. Needs neither scipy nor numpy,
so that settings can be read where those are missing.
"""

from __future__ import annotations

from pydantic import Field

from skyreid.contract.settings import Seconds, Section


class MatchingOptions(Section):
    """How sure is sure enough, and how far back is looked. Defaults are measured (docs/LOG.md)."""

    fpir: float = Field(0.01, gt=0, lt=1)
    """Accepted rate of strangers taken for somebody known (false-positive identification)."""
    batch_s: Seconds = Field(0.5, ge=0.001)
    """Length of a micro-batch, seconds of capture time."""
    window_s: Seconds = Field(600.0, gt=0)
    """Tracklets last seen longer ago take no part in matching, seconds of capture time."""
