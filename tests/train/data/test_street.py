from collections.abc import Callable
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import catalogue

Grow = Callable[..., Path]


def test_market_leaves_junk_out_and_keeps_distractors(grow: Grow, tmp_path: Path) -> None:
    data = catalogue.open(grow("Market-1501", tmp_path))
    assert data.name == "Market-1501"
    test = data.test()
    (trial,) = test.trials
    assert (trial.name, trial.domains) == ("ALL", False)
    assert trial.query.tolist() == [0, 1]
    assert trial.gallery.tolist() == [2, 3, 4, 5, 6]
    assert [(r.person, r.camera) for r in test.records] == [
        ("1", 0),
        ("3", 3),
        ("0", 0),
        ("0", 2),
        ("1", 0),
        ("1", 1),
        ("3", 0),
    ]
    assert {r.view for r in test.records} == {"ground"}
    assert {reason: len(paths) for reason, paths in test.left_out.items()} == {
        "junk": 1,
        "no picture": 2,
    }
    assert test.refused == {}


def test_market_is_found_in_the_folder_of_its_archive(grow: Grow, tmp_path: Path) -> None:
    grow("Market-1501", tmp_path / "Market-1501-v15.09.15")
    assert [r.person for r in catalogue.open(tmp_path).train().records] == ["2", "2", "7"]


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt_is_read_from_its_lists(grow: Grow, tmp_path: Path, folders: tuple[str, str]) -> None:
    root = grow("MSMT17", tmp_path / "MSMT17", folders=folders)
    data = catalogue.open(tmp_path)
    assert (data.name, data.root) == ("MSMT17", root)
    assert [(r.person, r.camera, r.view) for r in data.train().records] == [
        ("0", 0, "ground"),
        ("0", 14, "ground"),
        ("1", 2, "ground"),
    ]
    test = data.test()
    assert [(r.person, r.camera) for r in test.records] == [
        ("0", 13),
        ("0", 13),
        ("0", 1),
        ("9", 1),
    ]
    assert [(t.name, t.query.tolist(), t.gallery.tolist()) for t in test.trials] == [
        ("ALL", [0], [1, 2, 3])
    ]


def test_msmt_names_what_cannot_be_used(grow: Grow, tmp_path: Path) -> None:
    root = grow("MSMT17", tmp_path)
    file = root / "list_gallery.txt"
    lines = [f"0001/0001_{number:03d}_02_0303noon_0001_0.jpg 1" for number in range(400)]
    for line in lines:
        path = root / "test" / line.split()[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (root / "test" / "0001" / "0001_000_16_0303noon_0001_0.jpg").touch()
    lines += [
        "0001/0001_400_02_0303noon_0001_0.jpg 1",
        "0001/0001_000_16_0303noon_0001_0.jpg 1",
        "0001/0001_000_02_0303noon_0001_0.jpg",
        "0001/1.jpg 1",
    ]
    file.write_text("\n".join(lines))
    found = catalogue.open(root).test()
    assert {reason: [p.name for p in paths] for reason, paths in found.refused.items()} == {
        "missing file": ["0001_400_02_0303noon_0001_0.jpg"],
        "camera": ["0001_000_16_0303noon_0001_0.jpg"],
        "line": ["0001_000_02_0303noon_0001_0.jpg"],
        "name": ["1.jpg"],
    }
    file.write_text("\n".join([*lines, "0001/2.jpg 1"]))
    with pytest.raises(
        InputError, match=r"5 of 405 .* 1 by missing file, first .*2 by name, first"
    ):
        catalogue.open(root).test()


def test_msmt_without_pictures_or_list_says_so(grow: Grow, tmp_path: Path) -> None:
    root = grow("MSMT17", tmp_path)
    (root / "list_val.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read .*list_val\.txt"):
        catalogue.open(root).train()
    (root / "test").rename(root / "pictures")
    with pytest.raises(InputError, match="no folder test or mask_test_v2"):
        catalogue.open(root).test()
