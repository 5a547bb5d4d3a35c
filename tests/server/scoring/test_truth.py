"""Boxes of truth: who counts, and which box belongs to whom."""

from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.server.scoring.truth import CameraTruth, match, read_truth


def test_visibility_and_height_decide_who_is_a_dont_care(tmp_path: Path):
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "cam1.txt").write_text(
        "1,1,10,10,20,24,1,1,0.50\n1,2,50,10,20,24,1,1,0.49\n1,3,90,10,20,23.9,1,1,1.00\n\n"
    )

    truth = read_truth(tmp_path)["cam1"]

    assert truth.person.tolist() == [1, 2, 3]
    assert truth.cared.tolist() == [True, False, False]


def test_a_clip_without_truth_is_said_so(tmp_path: Path):
    with pytest.raises(InputError, match=r"no gt/cam\*\.txt"):
        read_truth(tmp_path)


def test_a_person_twice_in_a_frame_is_refused(tmp_path: Path):
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "cam1.txt").write_text("1,1,10,10,20,40,1,1,1\n1,1,60,10,20,40,1,1,1\n")
    with pytest.raises(InputError, match="two boxes in one frame"):
        read_truth(tmp_path)


def test_matching_maximises_the_sum_of_overlaps_and_not_each_best():
    # The first box overlaps both people; taking its best would leave the second box alone.
    people = np.array([[0.0, 0, 100, 100], [30, 0, 130, 100]])
    truth = CameraTruth(np.ones(2, np.int64), np.array([1, 2]), people, np.ones(2, bool))
    boxes = np.array([[14.0, 0, 114, 100], [-20, 0, 80, 100]])

    assert match(truth, np.ones(2, np.int64), boxes).row.tolist() == [1, 0]
