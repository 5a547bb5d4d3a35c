from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import agreid, catalogue
from skyreid.train.data.records import Record
from skyreid.train.data.trials import TestSet
from skyreid.train.evaluate.breakdown import places_at_levels
from skyreid.train.evaluate.metrics import Embedded

Grow = Callable[..., Path]
Listed = Callable[[Path, list[str]], None]


def named(test: TestSet, trial: str) -> tuple[list[str], list[str]]:
    """Names of the query's and the gallery's pictures."""
    (found,) = [t for t in test.trials if t.name == trial]
    query, gallery = (
        [test.records[i].path.stem for i in indices] for indices in (found.query, found.gallery)
    )
    return query, gallery


def test_a_person_is_the_digits_of_p_t_and_a_together() -> None:
    same_p = [
        agreid.parse(Path(f"P0003T{rest}F1.jpg"), agreid.V1_CAMERAS)
        for rest in ("02140A0C0", "02140A0C3", "02141A0C0", "02140A1C0")
    ]
    people = [r.person for r in same_p if isinstance(r, Record)]
    assert people == ["3021400", "3021400", "3021410", "3021401"]


def test_camera_view_and_level_come_from_the_name() -> None:
    v2 = [
        agreid.parse(Path(f"P0003T02140A2C{camera}F1.jpg"), agreid.V2_CAMERAS)
        for camera in (0, 2, 3, 1)
    ]
    assert v2[3] == "camera"
    assert [(r.camera, r.view, r.altitude_level) for r in v2 if isinstance(r, Record)] == [
        (0, "aerial", 2),
        (1, "ground", None),  # the level is the drone's
        (2, "ground", None),
    ]
    assert agreid.parse(Path("P0003T02140A2C1F1.jpg"), agreid.V1_CAMERAS) == "camera"
    assert agreid.parse(Path("P0003T02140C3F1.jpg"), agreid.V1_CAMERAS) == "name"


def test_v1_asks_one_camera_and_searches_the_other(grow: Grow, tmp_path: Path) -> None:
    data = catalogue.open(grow("AG-ReID", tmp_path))
    assert data.name == "AG-ReID"
    train = data.train()
    assert [(r.person, r.camera) for r in train.records] == [
        ("1040410", 0),
        ("1040410", 1),
        ("2040411", 0),
    ]
    test = data.test()
    assert len(test.records) == 9
    assert named(test, "A->G") == (
        ["P0003T02140A0C0F1", "P0003T02141A2C0F1"],
        ["P0003T02140A0C3F2", "P0003T02141A2C3F2", "P0003T02141A2C3F3"],
    )
    assert named(test, "G->A") == (
        ["P0003T02140A0C3F4"],
        ["P0003T02140A0C0F5", "P0003T02141A2C0F5", "P0003T02141A2C0F6"],
    )


def test_v1_refuses_a_picture_in_the_folder_of_the_other_camera(grow: Grow, tmp_path: Path) -> None:
    root = grow("AG-ReID", tmp_path)
    for number in range(100):
        (root / "query_all_c3" / f"P0003T02140A0C3F{number}9.jpg").touch()
    wrong = root / "query_all_c3" / "P0003T02140A0C0F4.jpg"
    wrong.touch()
    assert catalogue.open(root).test().refused == {"folder": (wrong,)}


def test_v1_lacking_a_folder_says_which(grow: Grow, tmp_path: Path) -> None:
    root = grow("AG-ReID", tmp_path)
    for picture in (root / "query_all_c3").iterdir():
        picture.unlink()
    with pytest.raises(InputError, match=r"query_all_c3 holds no picture named P0006T02140A0C0"):
        catalogue.open(root).test()
    (root / "query_all_c3").rmdir()
    with pytest.raises(InputError, match=r"no folder .*query_all_c3"):
        catalogue.open(root).test()


@pytest.mark.parametrize("layout", ["official", "forks", "forks, inner folder"])
def test_v2_follows_its_lists_in_both_layouts(grow: Grow, tmp_path: Path, layout: str) -> None:
    outer = tmp_path / "AG-ReID.v2"
    inner = outer if layout == "official" else outer / "AG-ReID.v2"
    grow("AG-ReID.v2", inner, lists=outer)
    data = catalogue.open({"forks": tmp_path, "official": outer}.get(layout, inner))
    assert (data.name, data.root) == ("AG-ReID.v2", inner)
    assert [r.camera for r in data.train().records] == [0, 1, 2]
    test = data.test()
    counts = {t.name: (len(t.query), len(t.gallery), t.domains) for t in test.trials}
    assert counts == {
        "A->C": (2, 3, False),
        "C->A": (1, 2, False),
        "A->W": (1, 2, False),
        "W->A": (2, 1, False),
    }
    # Twelve pictures, of which two are in two lists.
    assert len(test.records) == len({r.path for r in test.records}) == 12
    assert named(test, "A->W") == (
        ["P0003T02140A0C0F1"],
        ["P0003T02140A0C2F2", "P0004T02140A2C2F2"],
    )
    assert test.refused == test.left_out == {}


def test_nothing_depends_on_how_the_forks_number_ground_cameras(grow: Grow, tmp_path: Path) -> None:
    """They number a ground picture C - 1 as a query and 1 in the gallery, whatever C is."""
    test = catalogue.open(grow("AG-ReID.v2", tmp_path)).test()

    def removed(camera_of: Callable[[Record, bool], int]) -> list[tuple[str, int, int]]:
        return [
            (trial.name, q, g)
            for trial in test.trials
            for q in trial.query.tolist()
            for g in trial.gallery.tolist()
            if test.records[q].person == test.records[g].person
            and camera_of(test.records[q], True) == camera_of(test.records[g], False)
        ]

    def forks(record: Record, query: bool) -> int:
        return 0 if record.view == "aerial" else (record.camera if query else 1)

    assert removed(forks) == removed(lambda record, _: record.camera) == []


def test_v2_without_a_list_names_it(grow: Grow, tmp_path: Path) -> None:
    root = grow("AG-ReID.v2", tmp_path)
    gone = root / "exp2_aerial_to_wearable.txt"
    gone.unlink()
    test = catalogue.open(root).test()
    assert [trial.name for trial in test.trials] == ["A->C", "C->A", "W->A"]
    assert test.left_out == {"missing list": (gone,)}
    for file in root.glob("exp*.txt"):
        file.unlink()
    with pytest.raises(
        InputError, match=r"no list of a protocol .* exp1_aerial_to_cctv\.txt, exp4"
    ):
        catalogue.open(root).test()


def test_results_come_by_the_drones_level(grow: Grow, tmp_path: Path) -> None:
    test = catalogue.open(grow("AG-ReID", tmp_path)).test()
    levels = np.asarray(
        [-1 if r.altitude_level is None else r.altitude_level for r in test.records]
    )
    everything = Embedded(
        np.eye(len(levels), dtype=np.float32),
        np.asarray([int(r.person) for r in test.records]),
        np.asarray([r.camera for r in test.records]),
        np.asarray([r.view == "aerial" for r in test.records]),
    )
    up, down = test.trials  # aerial pictures at level 0 and 2
    places = places_at_levels(
        everything.rows(up.query), everything.rows(down.gallery),
        levels[up.query], levels[down.gallery],
    )  # fmt: skip
    assert (places.kind, places.names) == ("altitude", ("low", "high"))
    assert places.query.tolist() == [0, 1]
    assert places.gallery.tolist() == [0, 1, 1]
    ground = places_at_levels(
        everything.rows(down.query), everything.rows(up.query), levels[down.query], levels[up.query]
    )
    assert ground.query.tolist() == [-1]
