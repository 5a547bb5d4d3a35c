from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyreid.train.data import catalogue, lagper
from skyreid.train.data.records import Record
from skyreid.train.evaluate import metrics
from skyreid.train.evaluate.metrics import Embedded

Grow = Callable[..., Path]


def test_lagper_cameras_beyond_ten_move_down_by_one() -> None:
    found = [lagper.parse_lagper(Path(f"0001_c{camera:02d}_x.jpg")) for camera in range(24)]
    assert [camera for camera, r in enumerate(found) if r == "camera"] == [0, 10, 23]
    records = [r for r in found if isinstance(r, Record)]
    assert [r.camera for r in records] == list(range(1, 22))
    # Raw 3, 6, 9, 13, 16, 19 and 22 fly.
    assert [r.camera for r in records if r.view == "aerial"] == [3, 6, 9, 12, 15, 18, 21]
    assert lagper.parse_lagper(Path("0001_x03.jpg")) == "name"


def test_lagper_is_trained_on_without_its_junk(grow: Grow, tmp_path: Path) -> None:
    root = grow("LAGPeR", tmp_path / "LAGPeR")
    data = catalogue.open(tmp_path)
    assert (data.name, data.root) == ("LAGPeR", root)
    train = data.train()
    assert [(r.person, r.camera, r.view) for r in train.records] == [
        ("1", 1, "ground"),
        ("1", 3, "aerial"),
        ("2", 10, "ground"),
        ("2", 12, "aerial"),
    ]
    assert train.left_out == {"junk": (root / "bounding_box_train/-1/-1_c02_0001.jpg",)}
    assert train.refused == {}


def test_lagper_searches_what_its_lists_say(grow: Grow, tmp_path: Path) -> None:
    test = catalogue.open(grow("LAGPeR", tmp_path)).test()
    assert {t.name: (len(t.query), len(t.gallery)) for t in test.trials} == {
        "A->G": (1, 3),
        "G->A": (2, 2),
        "G->A+G": (2, 3),
    }
    both = test.trials[2]
    assert {test.records[i].view for i in both.query} == {"ground"}
    assert [test.records[i].view for i in both.gallery] == ["aerial", "ground", "ground"]
    assert test.left_out == {}  # nobody prints exp1 and exp2


def test_in_the_mixed_gallery_the_own_camera_does_not_count(grow: Grow, tmp_path: Path) -> None:
    """0102 of camera 18 has but pictures of camera 18 in that gallery, 0101 an aerial one."""
    test = catalogue.open(grow("LAGPeR", tmp_path)).test()
    people = np.asarray([int(r.person) for r in test.records])
    everything = Embedded(
        np.eye(len(people), dtype=np.float32),
        people,
        np.asarray([r.camera for r in test.records]),
        np.asarray([r.view == "aerial" for r in test.records]),
    )
    rows = np.arange(len(people))
    valid = {
        t.name: metrics.score(
            everything.where(np.isin(rows, t.query)), everything.where(np.isin(rows, t.gallery))
        ).queries
        for t in test.trials
    }
    assert valid == {"A->G": 1, "G->A": 2, "G->A+G": 1}


def test_lagper_galleries_without_extension_are_read_where_they_are(
    grow: Grow, listed: Callable[[Path, list[str]], None], tmp_path: Path
) -> None:
    root = grow("LAGPeR", tmp_path)
    listed(root / "exp1_A2G.txt", ["query_c3/9/0009_c03_1.jpg", "test_c1/9/0009_c01_1.jpg"])
    names = [trial.name for trial in catalogue.open(root).test().trials]
    assert names == ["A->G", "G->A", "G->A+G", "A->G exp1"]


@pytest.mark.parametrize("above", ["GA-ReID", "G2APS-ReID", ""])
def test_g2aps_is_told_from_lagper_by_its_names(grow: Grow, tmp_path: Path, above: str) -> None:
    root = grow("G2APS-ReID", tmp_path / above)
    data = catalogue.open(tmp_path)
    assert (data.name, data.root) == ("G2APS-ReID", root)
    assert [(r.person, r.camera, r.view) for r in data.train().records] == [
        ("1", 0, "aerial"),
        ("1", 1, "ground"),
        ("2", 1, "ground"),
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_g2aps_appends_distractors_to_each_gallery(grow: Grow, tmp_path: Path, ending: str) -> None:
    test = catalogue.open(grow("G2APS-ReID", tmp_path, ending=ending)).test()
    assert {t.name: (len(t.query), len(t.gallery), t.domains) for t in test.trials} == {
        "A->G": (1, 3, False),
        "G->A": (2, 2, False),
    }
    strangers = [test.records[t.gallery[-1]] for t in test.trials]
    assert [(r.person, r.view) for r in strangers] == [("5555", "ground"), ("5555", "aerial")]
    assert test.left_out == test.refused == {}


def test_g2aps_names_need_a_camera_and_a_video() -> None:
    assert lagper.parse_g2aps(Path("1_c0.jpg")) == "name"
    assert lagper.parse_g2aps(Path("1_c12v1.jpg")) == "name"
