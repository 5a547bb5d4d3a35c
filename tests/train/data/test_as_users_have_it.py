"""Data sets as they lie on people's disks: unpacked twice, renamed, copied by a Mac."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import agreid, catalogue, pictures

Grow = Callable[..., Path]


def files(root: Path, split: str) -> list[Path]:
    return sorted((root / split).rglob("*.jpg"))


@pytest.fixture
def tree(tiny_tree: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_tree, tmp_path / "tree")


def test_a_third_of_a_data_set_named_in_capitals_is_read(tree: Path) -> None:
    whole = catalogue.open(tree)
    train, test = whole.train(), whole.test()
    for split in ("train", "gallery"):
        for path in files(tree, split)[::3]:
            path.rename(path.with_suffix(".JPG"))
    assert len(whole.train().records) == len(train.records)
    assert [len(t.gallery) for t in whole.test().trials] == [len(t.gallery) for t in test.trials]


@pytest.mark.parametrize("suffix", [".jpeg", ".PNG", ".webp"])
def test_every_common_ending_is_read(tree: Path, suffix: str) -> None:
    for path in files(tree, "train"):
        picture = cv2.imread(str(path))
        assert picture is not None
        assert cv2.imwrite(str(path.with_suffix(suffix)), picture)
        path.unlink()
    found = catalogue.open(tree).train()
    assert len(found.records) == 48
    assert pictures.read_rgb(found.records[0].path).shape == (40, 20, 3)


def test_pictures_that_are_not_read_count_against_the_one_percent(tree: Path) -> None:
    some = files(tree, "train")
    some[0].rename(some[0].with_suffix(".tiff"))
    some[1].rename(some[1].with_name(f"{some[1].name}.part"))
    some[2].rename(some[2].with_suffix(""))  # by its first bytes
    with pytest.raises(InputError, match=r"3 of 48 pictures cannot be used.*3 by ending, first"):
        catalogue.open(tree).train()


def test_what_a_mac_leaves_is_no_picture_and_counts_nowhere(tree: Path) -> None:
    for path in files(tree, "train"):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tree / "train" / ".DS_Store").write_bytes(b"x")
    shutil.copytree(tree / "train" / "Cam1", tree / "train" / "__MACOSX")
    found = catalogue.open(tree).train()
    assert (len(found.records), found.refused, found.left_out) == (48, {}, {})


@pytest.mark.parametrize("nested", ["CARGO/CARGO", "cargo", "data/CARGO/CARGO", "with space/a"])
def test_an_archive_unpacked_into_its_own_name_is_found(
    tiny_tree: Path, tmp_path: Path, nested: str
) -> None:
    (tmp_path / nested).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / nested).symlink_to(tiny_tree)
    assert catalogue.open(tmp_path).root == tmp_path / nested


def test_two_data_sets_one_folder_below_are_both_named(
    grow: Grow, tiny_tree: Path, tmp_path: Path
) -> None:
    grow("Market-1501", tmp_path / "b" / "street")
    (tmp_path / "a").symlink_to(tiny_tree)
    assert catalogue.open(tmp_path).name == "CARGO"  # nearer
    (tmp_path / "c").symlink_to(tiny_tree)
    with pytest.raises(InputError, match=r"CARGO in .*/a and CARGO in .*/c; name the folder"):
        catalogue.open(tmp_path)


def test_a_link_to_a_folder_above_is_not_followed(tree: Path) -> None:
    (tree / "train" / "Cam1" / "again").symlink_to(tree / "train")
    (tree / "train" / "here").symlink_to(tree / "train")
    found = catalogue.open(tree).train()
    assert (len(found.records), found.refused) == (48, {})


def test_a_list_means_the_picture_whatever_its_ending(grow: Grow, tmp_path: Path) -> None:
    root = grow("AG-ReID.v2", tmp_path)
    before = {t.name: (len(t.query), len(t.gallery)) for t in catalogue.open(root).test().trials}
    for path in (root / "gallery").rglob("*.jpg"):
        path.rename(path.with_suffix(".PNG"))
    after = catalogue.open(root).test()
    assert {t.name: (len(t.query), len(t.gallery)) for t in after.trials} == before
    assert {r.path.suffix for r in after.records} == {".jpg", ".PNG"}


def test_the_first_release_of_agreid_is_read_when_asked_for(grow: Grow, tmp_path: Path) -> None:
    root = grow("AG-ReID", tmp_path)
    for folder in ("bounding_box_train", "bounding_box_test_all_c3"):
        for path in (root / folder).glob("*C3F*.jpg"):
            path.rename(path.with_name(path.name.replace("C3F", "C2F")))
    with pytest.raises(InputError, match=r"1 of 3 .*--ag-reid-c2"):
        catalogue.open(root).train()
    data = catalogue.open(root, told=catalogue.Told(ag_reid_c2=True))
    assert data.layout is agreid.V1_FIRST
    assert [r.camera for r in data.train().records] == [0, 1, 0]
    assert {t.name: len(t.gallery) for t in data.test().trials} == {"A->G": 3, "G->A": 3}


def test_the_oldest_opencv_that_is_allowed_reads_a_picture(
    tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)  # which came with 4.11
    assert pictures.read_rgb(files(tiny_tree, "train")[0]).mean((0, 1)).argmax() == 0
