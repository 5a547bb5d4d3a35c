"""What somebody looks like beside everybody whose looks are kept: exact, centred cosines.

A camera's light and angle shift all its vectors alike, so what is compared is what a vector is less
the mean look of its camera in that half hour, shrunk as the matcher's (`matching.looks.shifts`). No
second copy of the vectors is kept: a product with the raw one, less the same product with its
camera's mean, over a length, is the cosine of the centred ones.

Somebody as a whole is the mean of their tracklets (`Average`). Two are compared by the distance of
their means, over how far means of so few would lie apart by chance: who was seen often, and looked
alike each time, is told from others the better for it, and who was seen once is not held to that.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.segments import Segment

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
SLOT_NS = 1800 * 10**9
"""The mean look of a camera is of so long: the sun and the camera's own exposure go on."""
STRENGTH = 5.0
"""Vectors that weigh as much as the mean one level up."""


ONCE = 2.0
"""Variance of what somebody looks like in one view from tracklet to tracklet, over what all of them
there have in common."""
Model = tuple[str, int]
"""Key and dimensions."""


@dataclass(frozen=True, eq=False)
class Average:
    """What somebody looks like on average, no view counting more than another."""

    mean: Float32
    """[D] of centred vectors of length 1: shorter the more they differ."""
    variance: float
    """Of the mean, where a single tracklet's is 1."""


def alike(one: Average, two: Average) -> float:
    """How like each other two are: of a single tracklet each, their cosine.

    At most 1, and below -1 where two of many tracklets each look quite different.
    """
    apart = float(np.sum(np.square(one.mean - two.mean), dtype=np.float64))
    return 1.0 - apart / (one.variance + two.variance)


def variance(many: Sequence[int]) -> float:
    """Of a mean of so many tracklets in each view, none of them 0."""
    return sum(1 + ONCE / n for n in many) / (1 + ONCE) / len(many) ** 2


class Place(NamedTuple):
    """Where a vector lies: which segment of a question, which row."""

    segment: int
    row: int


@dataclass(eq=False)
class _Centre:
    """What a segment's vectors are less, and how long they are without it."""

    means: Float32
    """[M, D]."""
    which: NDArray[np.int32]
    """[rows] in ``means``."""
    length: Float32
    """[rows]."""
    version: tuple[int, int, int]


@dataclass(eq=False)
class Seen:
    """How like somebody, as seen from one view, everybody is who was seen from one."""

    query: View
    view: View
    segments: Sequence[Segment]
    similarity: list[Float32]
    """[rows] of each segment: centred cosines."""
    kept: list[NDArray[np.bool_]]
    """[rows] of each segment: whether the vector is there still."""

    def ended_before(self, at_ns: int) -> list[NDArray[np.bool_]]:
        """[rows] of each segment: those of tracklets that were over at a moment."""
        return [
            kept & (segment.columns["seen_ns"][: len(kept)] < at_ns)
            for segment, kept in zip(self.segments, self.kept, strict=True)
        ]


class Looks:
    """Asks a gallery. Hold its ``lock`` from a question to the last use of the answer."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._centres: weakref.WeakKeyDictionary[Segment, _Centre] = weakref.WeakKeyDictionary()

    def model_of(self, keys: Collection[TrackKey]) -> Model | None:
        """By which the latest of some tracklets is embedded; None where none of them is kept."""
        found = [place for key in keys if (place := self._gallery.find(key)) is not None]
        if not found:
            return None
        newest = max(found, key=lambda at: int(at[0].columns["seen_ns"][at[1]]))[0]
        return newest.model_key, newest.dim

    def of(self, keys: Collection[TrackKey], model: Model) -> list[Seen]:
        """Everybody beside somebody whose tracklets have these names, by pair of views."""
        found = self._found(keys, model)
        answers = []
        for query in View:
            own = [at for at in found if at[0].view == query]
            if not own:
                continue
            total = np.sum([self._vector(*at) for at in own], 0, dtype=np.float64)
            total /= max(float(np.linalg.norm(total)), 1e-9)
            vector = np.asarray(total, np.float32)
            for view in View:
                segments = self._gallery.of(*model, view)
                answers.append(
                    Seen(
                        query,
                        view,
                        segments,
                        [self._similarity(segment, vector) for segment in segments],
                        [segment.alive[: segment.rows].copy() for segment in segments],
                    )
                )
        return answers

    def find(self, key: TrackKey) -> Segment | None:
        """Where its vector lies; None where it is not kept."""
        found = self._gallery.find(key)
        return None if found is None else found[0]

    def place(self, key: TrackKey, of: Seen) -> Place | None:
        """Where a tracklet lies in an answer; None where it is not in it."""
        found = self._gallery.find(key)
        if found is None:
            return None
        segment, row = found
        for number, each in enumerate(of.segments):
            if each is segment:
                return Place(number, row)
        return None

    def average(self, keys: Collection[TrackKey], model: Model) -> Average:
        """Somebody whose tracklets have these names; of one at least a vector is kept."""
        found = self._found(keys, model)
        views = [[at for at in found if at[0].view == view] for view in View]
        means = [np.mean([self._vector(*at) for at in own], 0) for own in views if own]
        many = [len(own) for own in views if own]
        return Average(np.asarray(np.mean(means, 0), np.float32), variance(many))

    def _found(self, keys: Collection[TrackKey], model: Model) -> list[tuple[Segment, int]]:
        found = [place for key in keys if (place := self._gallery.find(key)) is not None]
        return [at for at in found if (at[0].model_key, at[0].dim) == model]

    def _vector(self, segment: Segment, row: int) -> Float32:
        """A row less its camera's mean, of length 1."""
        centre = self._centre(segment)
        bare = segment.vectors[row].astype(np.float32) - centre.means[centre.which[row]]
        return np.asarray(bare / centre.length[row], np.float32)

    def _similarity(self, segment: Segment, query: Float32) -> Float32:
        centre = self._centre(segment)
        raw = segment.products(query) - (centre.means @ query)[centre.which]
        return np.asarray(raw / centre.length, np.float32)

    def _centre(self, segment: Segment) -> _Centre:
        version = segment.rows, segment.last_ns, int(segment.alive[: segment.rows].sum())
        held = self._centres.get(segment)
        if held is None or held.version != version:
            held = self._centres[segment] = _centre_of(segment, version)
        return held


def _centre_of(segment: Segment, version: tuple[int, int, int]) -> _Centre:
    rows = segment.rows
    vectors = segment.vectors[:rows].astype(np.float32)
    alive = segment.alive[:rows]
    cameras = {name: number for number, name in enumerate(sorted({n[2] for n in segment.names}))}
    camera_of = np.array([cameras[name[2]] for name in segment.names], np.int64)
    camera = camera_of[segment.columns["name"][:rows]]
    slot = segment.columns["seen_ns"][:rows] // SLOT_NS
    names, which = np.unique(np.stack([camera, slot], 1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    of_view = vectors[alive].sum(0, dtype=np.float64)
    of_view /= alive.sum() + STRENGTH
    of_camera = np.zeros((len(cameras), segment.dim))
    for number in range(len(cameras)):
        own = vectors[alive & (camera == number)]
        of_camera[number] = _shrunk(own, of_view)
    means = np.array(
        [
            _shrunk(vectors[alive & (which == number)], of_camera[int(of)])
            for number, (of, _) in enumerate(names)
        ],
        np.float32,
    ).reshape(-1, segment.dim)
    length = np.linalg.norm(vectors - means[which], axis=1)
    lengths = np.maximum(length, 1e-6).astype(np.float32)
    return _Centre(means, which.astype(np.int32), lengths, version)


def _shrunk(vectors: Float32, above: Float64) -> Float64:
    total = vectors.sum(0, dtype=np.float64)
    out: Float64 = (total + STRENGTH * above) / (len(vectors) + STRENGTH)
    return out
