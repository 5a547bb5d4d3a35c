"""The message a device sends about one person in one camera, as both ends use it.

``sighting_wire`` reads and writes its bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import MessageError

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
MAX_PAUSES = 32
"""Pauses that a sighting says at most; of more the shortest are not said. See `pauses_in_ms`."""
_MS = 1_000_000

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
class Pause:
    """A stretch in which the camera's frames were looked at and somebody was in none of them."""

    begin_ns: int
    """The first frame without them."""
    end_ns: int
    """The frame in which they are seen again."""

    def later(self, by_ns: int) -> Pause:
        """The same, so much later."""
        return Pause(self.begin_ns + by_ns, self.end_ns + by_ns)


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


def pauses_between(stretches: Sequence[tuple[int, int]]) -> tuple[Pause, ...]:
    """The pauses between stretches (from, until) in which somebody was seen, ascending, in ns."""
    return tuple(Pause(one[1], two[0]) for one, two in pairwise(stretches))


def pauses_in_ms(pauses: Iterable[Pause], first_ns: int) -> list[int]:
    """How long somebody was seen, then not, then seen, and so on, from ``first_ns``.

    A pause is rounded to what is within it; one of less than a millisecond is none.
    """
    out: list[int] = []
    said = 0
    for pause in pauses:
        begin, end = -((first_ns - pause.begin_ns) // _MS), (pause.end_ns - first_ns) // _MS
        if end > begin:
            out += [begin - said, end - begin]
            said = end
    return out


def pauses_from_ms(turns_ms: Sequence[int], first_ns: int, last_ns: int) -> tuple[Pause, ...]:
    """Inverse of `pauses_in_ms`, checked.

    Raises:
        MessageError: there are too many, one is empty, or they reach beyond ``last_ns``.
    """
    if len(turns_ms) % 2:
        raise MessageError("sighting", f"pauses_ms has {len(turns_ms)} numbers, not pairs of them")
    if len(turns_ms) > 2 * MAX_PAUSES:
        detail = f"pauses_ms says {len(turns_ms) // 2} pauses, at most {MAX_PAUSES}"
        raise MessageError("sighting", detail)
    if 0 in turns_ms[1::2]:
        raise MessageError("sighting", "pauses_ms says a pause of 0 ms")
    if sum(turns_ms) * _MS > last_ns - first_ns:
        detail = f"pauses_ms ends after {sum(turns_ms)} ms, beyond captured_at_ns"
        raise MessageError("sighting", detail)
    found: list[Pause] = []
    at_ns = first_ns
    for seen, unseen in zip(turns_ms[::2], turns_ms[1::2], strict=True):
        begin_ns = at_ns + seen * _MS
        at_ns = begin_ns + unseen * _MS
        found.append(Pause(begin_ns, at_ns))
    return tuple(found)
