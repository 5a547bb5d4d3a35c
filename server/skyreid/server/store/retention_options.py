"""How long the server keeps what, by kind: a section of the settings."""

from __future__ import annotations

from pydantic import Field

from skyreid.contract.settings import Section


class RetentionOptions(Section):
    """For how long each kind is kept after it came. 0: not longer than matching needs it."""

    embeddings_h: float = Field(72.0, ge=0, le=1e6)
    """Hours: what somebody can be recognised by. The sightings stay without it."""
    pictures_h: float = Field(24.0, ge=0, le=1e6)
    """Hours; beside that ``pictures.max_mb`` holds. 0: none is stored."""
    sightings_d: float = Field(30.0, ge=0, le=40_000)
    """Days: where and when somebody was seen."""
    identities_d: float = Field(30.0, ge=0, le=40_000)
    """Days since the last sighting of a tracklet: which sightings were one person."""
    events_d: float = Field(90.0, ge=0, le=40_000)
    """Days: what the world was told, and the log of decisions, beside ``journal.events_kept``."""

    def text(self) -> str:
        """For people, in one line."""
        return (
            f"embeddings {self.embeddings_h:g} h, pictures {self.pictures_h:g} h, "
            f"sightings {self.sightings_d:g} d, identities {self.identities_d:g} d, "
            f"events {self.events_d:g} d"
        )
