"""The message a device sends about one person in one camera, as both ends use it.

``sighting_wire`` reads and writes its bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.pauses import Pause

MAX_DIM = 4096
"""Numbers in an embedding, at most."""
MAX_OFFSET_M = 1e6
"""Of a position from the site's origin: no site is as large, and squares of it are numbers."""
MAX_INTEGER = (1 << 63) - 1
"""Numbers of sightings and tracks end here: both ends keep them in SQLite, whose integers are
signed."""
CLOCK_UNKNOWN_MS = (1 << 32) - 1
"""``clock_error_ms`` of a clock that nobody has set, as that of a file without a known start: its
times tell what happened in one camera in which order, and nothing about any other camera."""

Float32 = NDArray[np.float32]


class View(enum.IntEnum):
    """From where a camera looks; a property of the camera."""

    AERIAL = 1
    GROUND = 2

    @property
    def word(self) -> str:
        """``aerial`` or ``ground``: the spelling in settings, JSON and manifests."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> View:
        """Inverse of ``word``; raises KeyError for anything else."""
        return cls[word.upper()]


class Modality(enum.IntEnum):
    """What the pixels of a camera are. ``UNKNOWN``: nobody knows, or a word of later releases.

    A device tells colour from grey by itself, but not grey from infrared: both come in the same
    three planes as by day.
    """

    UNKNOWN = 0
    COLOUR = 1
    GREY = 2
    INFRARED = 3

    @property
    def word(self) -> str:
        """``unknown``, ``colour``, ``grey`` or ``infrared``, as in settings and JSON."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Modality:
        """Inverse of ``word``; raises KeyError for anything else."""
        return cls[word.upper()]

    @property
    def colourless(self) -> bool:
        """Whether looks have no colours: grey and infrared. ``UNKNOWN`` is taken for colour."""
        return self in (Modality.GREY, Modality.INFRARED)


class Kind(enum.IntEnum):
    """Where in a tracklet's life a sighting stands."""

    NEW = 1
    UPDATE = 2
    END = 3


class Lane(enum.IntEnum):
    """Live traffic, or what a device saved up while it was cut off."""

    LIVE = 1
    BACKFILL = 2


class Clock(enum.IntEnum):
    """Where ``captured_at_ns`` comes from, best first."""

    NTP = 1
    RTCP = 2
    KLV = 3
    FILE = 4
    ARRIVAL = 5


@dataclass(frozen=True)
class Box:
    """x0, y0, x1, y1 in float pixels of the decoded frame, origin top left."""

    x0: float
    y0: float
    x1: float
    y1: float
    frame_width: int
    frame_height: int


@dataclass(frozen=True)
class Ground:
    """Where the person stands, metres east and north in the site frame, covariance in m²."""

    east_m: float
    north_m: float
    cov_ee_m2: float
    cov_en_m2: float
    cov_nn_m2: float


@dataclass(frozen=True)
class ModelRef:
    """Which model made the embeddings of a batch. Compare only within one ``key``."""

    key: str
    dim: int
    bundle_sha256: str
    name: str


@dataclass(frozen=True, eq=False)  # eq: an array has no truth value; compare encode() instead
class Sighting:
    """One statement of a device about one tracklet; a later revision replaces an earlier one."""

    seq: int
    camera: str
    view: View
    track: int
    revision: int
    kind: Kind
    first_seen_ns: int
    captured_at_ns: int
    clock: Clock
    clock_error_ms: int
    box: Box
    quality: float
    crops: int
    embedding: Float32
    """float32 [D], L2-normalised; float16 on the wire."""
    spread: float
    ground: Ground | None = None
    modality: Modality = Modality.UNKNOWN
    pauses: tuple[Pause, ...] = ()
    """When nobody saw them since ``first_seen_ns``, ascending; to the millisecond on the wire."""


@dataclass(frozen=True, eq=False)
class SightingBatch:
    """What travels in one MQTT message: 0 (a heartbeat) to 32 sightings of one device."""

    site: str
    device: str
    boot: str
    lane: Lane
    sent_at_ns: int
    model: ModelRef
    sightings: tuple[Sighting, ...] = field(default_factory=tuple)
    watermark_ns: int = 0
    """No later live sighting has ``captured_at_ns`` below this; 0 = not said."""
