"""IDF1, HOTA and AssA beside NIST's own computation of them, where both mean the same.

IDF1 is the same wherever a person's identities are given out. NIST's HOTA lets a person have one
identity in all of the videos, TrackEval's lets each frame choose: they are equal where the best
identity is chosen everywhere, and differ where a person has two.
"""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from skyreid.server.scoring.metrics import TrackedBoxes, TrackingScore, score_tracking
from skyreid.server.scoring.truth import CameraTruth

CAMERAS, FRAMES, PEOPLE = 3, 30, 6
Row = tuple[int, int, list[float]]
"""frame, person or identity, box."""


def world(*, jitter_px: float, split: bool = False, swapped: bool = False) -> list[Any]:
    """Truth and tracked rows of each camera: people missed, boxes of nobody, boxes beside.

    Two people have a second identity in one camera (`split`), or two take each other's (`swapped`).
    """
    rng = np.random.default_rng(1)
    cameras = []
    for camera in range(CAMERAS):
        truth: list[Row] = []
        found: list[Row] = []
        for frame in range(1, FRAMES + 1):
            for person in range(PEOPLE):
                if rng.random() < 0.15:
                    continue
                box = np.array([100.0 * person + frame, 300, 100.0 * person + frame + 40, 400])
                truth.append((frame, person, box.tolist()))
                if rng.random() < 0.1:
                    continue
                label = person
                if split and camera == 1 and person < 2:
                    label = person + 20
                if swapped and camera == 2 and person in (3, 4):
                    label = 7 - person
                found.append((frame, label, (box + rng.normal(0, jitter_px, 4)).tolist()))
            if rng.random() < 0.2:
                found.append((frame, 50 + int(rng.integers(3)), [900.0, 10, 940, 110]))
        cameras.append((truth, found))
    return cameras


def ours(cameras: list[Any]) -> TrackingScore:
    boxes = []
    for truth, found in cameras:
        frame, person, box = (np.array(column) for column in zip(*truth, strict=True))
        known = CameraTruth(frame, person, box, np.ones(len(frame), bool))
        when, label, where = zip(*found, strict=True)
        boxes.append(TrackedBoxes(known, np.array(when), np.array(where), label, label))
    return score_tracking(boxes, FRAMES)


def theirs(cameras: list[Any], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    reid_hota = pytest.importorskip("reid_hota", reason="reid-hota is not installed")
    pandas = pytest.importorskip("pandas")  # which it needs
    names = pytest.importorskip("reid_hota.constants").AnnotationColumn
    corners = (names.X1, names.Y1, names.X2, names.Y2)

    def rows(table: list[Row]) -> Any:
        columns: dict[str, list[Any]] = {names.FRAME: [f for f, _, _ in table]}
        columns[names.OBJECT_ID] = [who for _, who, _ in table]
        for k, corner in enumerate(corners):
            columns[corner] = [box[k] for _, _, box in table]
        return pandas.DataFrame(columns)

    config = reid_hota.HOTAConfig(
        id_alignment_method="global",
        reference_contains_dense_annotations=True,
        iou_thresholds=thresholds,
        suppress_print_statements=True,
    )
    judge = reid_hota.HOTAReIDEvaluator(n_workers=0, config=config)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.evaluate(
            {str(k): rows(truth) for k, (truth, _) in enumerate(cameras)},
            {str(k): rows(found) for k, (_, found) in enumerate(cameras)},
        )
    found: dict[str, np.ndarray] = judge.get_global_hota_data()
    return found


@pytest.mark.parametrize("jitter_px", [0.0, 4.0, 12.0])
def test_hota_and_assa_are_nists_where_a_person_has_one_identity(jitter_px: float) -> None:
    cameras = world(jitter_px=jitter_px)
    score = ours(cameras)
    nist = theirs(cameras, np.arange(0.05, 0.99, 0.05))
    assert score.hota == pytest.approx(float(np.mean(nist["HOTA"])), abs=1e-6)
    assert score.assa == pytest.approx(float(np.mean(nist["AssA"])), abs=1e-6)
    assert 0.3 < score.hota < 0.95


@pytest.mark.parametrize(("split", "swapped"), [(False, False), (True, False), (False, True)])
def test_idf1_is_nists_whatever_identities_people_have(split: bool, swapped: bool) -> None:
    cameras = world(jitter_px=4.0, split=split, swapped=swapped)
    nist = theirs(cameras, np.array([0.5]))
    assert ours(cameras).idf1 == pytest.approx(float(nist["IDF1"][0]), abs=1e-6)
