"""Numbers of the report: detector, tracking over all cameras, and pairs across the two views.

Everything here is arrays in, numbers out. IDF1: Ristani et al., Performance measures and a data set
for multi-target, multi-camera tracking, arXiv:1609.01775. HOTA and AssA: Luiten et al.,
arXiv:2009.07736. Both are computed by TrackEval, so that they are the numbers others print.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, iou
from skyreid.bundle.recall import judge, merge
from skyreid.contract.errors import PlatformError
from skyreid.contract.recording import MotRows
from skyreid.server.scoring.truth import CameraTruth, Int64, Matched, match

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class DetectorScore:
    """How one camera's detector did; None where there was nothing to count."""

    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class TrackingScore:
    """All cameras as one sequence, 0 to 1; HOTA and AssA are means over IoU .05 to .95."""

    idf1: float
    hota: float
    assa: float


@dataclass(frozen=True)
class CrossView:
    """Pairs of one aerial and one ground tracklet.

    ``pairs`` were put into one identity, ``right`` of them are one person, ``possible`` pairs
    are one person in truth. None where the denominator is 0.
    """

    pairs: int
    right: int
    possible: int

    @property
    def precision(self) -> float | None:
        """Right among the pairs that were made."""
        return self.right / self.pairs if self.pairs else None

    @property
    def recall(self) -> float | None:
        """Right among the pairs that should have been made."""
        return self.right / self.possible if self.possible else None


@dataclass(frozen=True, eq=False)
class TrackedBoxes:
    """One camera's boxes with the truth beside them.

    frame int64 [N] (from 1), box_xyxy float64 [N, 4] in pixels, label [N]: the identity that each
    box claims, any hashable; tracklet [N]: which tracklet the box is of.
    """

    truth: CameraTruth
    frame: Int64
    box_xyxy: NDArray[np.float64]
    label: Sequence[Hashable]
    tracklet: Sequence[Hashable]


def score_detector(truth: CameraTruth, found: MotRows) -> DetectorScore:
    """Recall and precision of one camera's detections, by the rule of ``bundle/recall.py``."""
    parts = []
    for number in np.union1d(truth.frame, found.frame):
        theirs, mine = truth.frame == number, found.frame == number
        detections = Detections(
            found.box_xyxy[mine].astype(np.float32), found.score[mine].astype(np.float32)
        )
        parts.append(judge(detections, truth.box_xyxy[theirs], truth.cared[theirs]))
    return DetectorScore(*merge(parts).rates())


def majority_person(truth: CameraTruth, found: Matched, members: NDArray[np.bool_]) -> int | None:
    """The person that most of a tracklet's matched boxes belong to, or None if none matched.

    Don't-care boxes count here: a person half hidden is still that person. A tie goes to the
    smaller person number.
    """
    rows = found.row[members & (found.row >= 0)]
    if not len(rows):
        return None
    people, counts = np.unique(truth.person[rows], return_counts=True)
    return int(people[np.argmax(counts)])


def score_cross_view(
    identity: Mapping[Key, str],
    person: Mapping[Key, int | None],
    aerial: Sequence[Key],
    ground: Sequence[Key],
) -> CrossView:
    """Count pairs of one aerial and one ground tracklet.

    Args:
        identity: what the server says, for the tracklets that it gave an identity.
        person: the truth of each tracklet; None (it matched nobody) is wrong in every pair.
        aerial: tracklets with a sighting, of aerial cameras.
        ground: tracklets with a sighting, of ground cameras.
    """
    above = [(identity.get(key), person.get(key)) for key in aerial]
    below = [(identity.get(key), person.get(key)) for key in ground]
    by_identity = Counter(name for name, _ in below)
    by_person = Counter(who for _, who in below)
    by_both = Counter(below)
    return CrossView(
        pairs=sum(by_identity[name] for name, _ in above if name is not None),
        right=sum(by_both[it] for it in above if it[0] is not None and it[1] is not None),
        possible=sum(by_person[who] for _, who in above if who is not None),
    )


def score_tracking(cameras: Sequence[TrackedBoxes], frames: int) -> TrackingScore:
    """IDF1, HOTA and AssA of all cameras as one sequence.

    Args:
        cameras: boxes of each camera; a label means the same identity in all of them.
        frames: number of frames of the clip; camera k's frames follow those of camera k - 1.

    Raises:
        PlatformError: TrackEval is not installed.
    """
    try:
        # It warns at import on recent numpy and prints its settings; neither is our reader's.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from trackeval.metrics import HOTA, Identity
    except ImportError as error:
        raise PlatformError(f"TrackEval is missing ({error}): pip install trackeval") from error
    data = _sequence(cameras, frames)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        identity, hota = Identity().eval_sequence(data), HOTA().eval_sequence(data)
    # Early returns of TrackEval leave a bare 0 where there is nothing to compare.
    return TrackingScore(
        float(identity["IDF1"]), float(np.mean(hota["HOTA"])), float(np.mean(hota["AssA"]))
    )


def _sequence(cameras: Sequence[TrackedBoxes], frames: int) -> dict[str, Any]:
    """TrackEval's form of the data: per time step contiguous ids and the matrix of overlaps."""
    people: dict[int, int] = {}
    labels: dict[Hashable, int] = {}
    truth_ids: list[Int64] = []
    label_ids: list[Int64] = []
    similarity: list[NDArray[np.float64]] = []
    for camera in cameras:
        truth, found = camera.truth, match(camera.truth, camera.frame, camera.box_xyxy)
        claimed = _unique_labels(camera)
        for number in range(1, frames + 1):
            theirs = np.flatnonzero((truth.frame == number) & truth.cared)
            mine = np.flatnonzero((camera.frame == number) & ~found.ignored)
            truth_ids.append(_numbers(people, [int(truth.person[i]) for i in theirs]))
            label_ids.append(_numbers(labels, [claimed[i] for i in mine]))
            similarity.append(iou(truth.box_xyxy[theirs], camera.box_xyxy[mine]))
    return {
        "num_timesteps": len(truth_ids),
        "num_gt_ids": len(people),
        "num_tracker_ids": len(labels),
        "num_gt_dets": sum(map(len, truth_ids)),
        "num_tracker_dets": sum(map(len, label_ids)),
        "gt_ids": truth_ids,
        "tracker_ids": label_ids,
        "similarity_scores": similarity,
    }


def _numbers(known: dict[Any, int], names: Sequence[Any]) -> Int64:
    """Contiguous numbers of ``names``, new ones added to ``known``."""
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _unique_labels(camera: TrackedBoxes) -> list[Hashable]:
    """Labels of which none stands twice in a frame, as the metrics require.

    Where two tracklets of one camera claim one identity at the same moment, one of them is surely
    wrong; the one with more boxes keeps it (a tie goes to the one that started first), the other's
    box counts under an id of its own in that frame, so that the mistake is paid for.
    """
    boxes = Counter(camera.tracklet)
    first: dict[Hashable, int] = {}
    for index, key in enumerate(camera.tracklet):
        first.setdefault(key, index)
    order = sorted(
        range(len(camera.label)),
        key=lambda i: (-boxes[camera.tracklet[i]], first[camera.tracklet[i]]),
    )
    taken: set[tuple[int, Hashable]] = set()
    out = list(camera.label)
    for index in order:
        place = (int(camera.frame[index]), camera.label[index])
        if place in taken:
            out[index] = ("beside", camera.tracklet[index])
        taken.add(place)
    return out
