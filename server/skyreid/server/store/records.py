"""What the journal keeps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.sighting import Sighting


@dataclass(frozen=True, eq=False)
class Arrived:
    """A checked sighting with what its envelope says; ``body`` are its bytes as they came.

    Of one that came ``sealed`` they are what was in it.
    """

    device: str
    boot: str
    lane: int
    model_key: str
    dim: int
    received_at_ns: int
    sighting: Sighting
    body: bytes
    sealed: bool = False

    @property
    def key(self) -> TrackKey:
        """Which tracklet it is of."""
        return TrackKey(self.device, self.boot, self.sighting.camera, self.sighting.track)


@dataclass(frozen=True)
class Heard:
    """What one message says about its device; None = the message does not say.

    ``watermark_ns`` counts within one ``boot``: a device that plays a file again starts anew.
    """

    device: str
    heard_at_ns: int
    boot: str | None = None
    watermark_ns: int = 0
    camera: str | None = None
    view: int | None = None
    model_key: str | None = None


@dataclass(frozen=True)
class ArrivedPicture:
    """A checked picture of a tracklet, with who sent it and when it came."""

    device: str
    received_at_ns: int
    picture: Picture

    @property
    def key(self) -> TrackKey:
        """Which tracklet it is of."""
        p = self.picture
        return TrackKey(self.device, p.boot, p.camera, p.track)


@dataclass(frozen=True)
class OutboxRow:
    """An event on its way to the broker: ``body`` is a CloudEvents JSON object."""

    id: int
    identity: str
    body: str
