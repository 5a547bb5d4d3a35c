"""How eagerly is sent: a part of ``[mqtt]`` in the settings, and what nobody sets."""

from __future__ import annotations

from pydantic import Field

from skyreid.contract.settings import Seconds, Section

RESEND_MAX_S, ROUND_MAX_S = 60.0, 600.0
"""Longest pauses: where nothing is receipted, and before those that were passed over."""
HEARTBEAT_S = 1.0
"""Without sightings an empty batch carries the watermark this often."""
LINGER_S = 0.1
"""A live batch that is not full comes so long after the last one."""
SILENT_S = 30.0
"""A broker that acknowledges nothing for so long is left."""


class OutboxOptions(Section):
    """How eagerly is sent; also a part of ``[mqtt]`` in the settings. Seconds of wall time."""

    resend_after_s: Seconds = Field(10.0, gt=0)
    """Seconds without a receipt after which sightings are sent again; doubles up to 60 s where
    there are none at all, up to 600 s where only some have none."""
    backfill_after_s: Seconds = Field(30.0, gt=0)
    """A sighting that is sent later than this after it was made goes to the backfill lane."""
    backfill_per_s: float = Field(500.0, gt=0)
    """Sightings a second of the backfill lane at most."""
