"""What a user may set of how people are followed and spoken of; also sections of the settings.

Measured constants are not here but beside the code that uses them. Needs neither OpenCV nor numpy,
so that settings can be read where those are missing.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from skyreid.contract.settings import Seconds, Section


class TrackerOptions(Section):
    """How boxes of successive frames become one track."""

    score_high: float = Field(0.4, ge=0, le=1)
    """Detections from here on are matched first and may start a track."""
    score_low: float = Field(0.1, ge=0, le=1)
    """Detections below it are not looked at."""
    hits_min: int = Field(3, ge=1)
    """Detections after which a track is believed."""
    lost_max_s: Seconds = Field(1.0, gt=0)
    """Seconds without a detection after which a track ends."""


class CollectorOptions(Section):
    """Which crops of a person are kept, and when the device speaks of them."""

    crops_max: int = Field(8, ge=1, le=64)
    """Crops in the aggregate at most."""
    crops_min: int = Field(2, ge=1)
    """Crops before the first sighting, unless the person leaves earlier."""
    crop_every_s: Seconds = Field(0.4, ge=0)
    """At most one crop in this many seconds: two crops of successive frames say the same."""
    quality_min: float = Field(0.15, ge=0, le=1)
    """Crops below it are not kept."""
    update_every_s: Seconds = Field(1.0, ge=0)
    """At most one update of a person in this many seconds, but for a much better crop."""

    @model_validator(mode="after")
    def _enough_crops_can_be_kept(self) -> CollectorOptions:
        if self.crops_min > self.crops_max:
            raise ValueError(
                f"crops_min {self.crops_min} is more than crops_max {self.crops_max}: nobody would "
                "be spoken of before they leave"
            )
        return self
