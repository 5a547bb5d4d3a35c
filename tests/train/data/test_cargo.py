import shutil
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import cargo
from skyreid.train.data.records import Record, joined


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_names_become_labels_in_a_fixed_order(tmp_path: Path) -> None:
    last = touch(tmp_path / "train" / "Cam13" / "Cam13_night_0007_12.jpg")
    second = touch(tmp_path / "train" / "Cam5" / "Cam5_day_4321_0.jpg")
    first = touch(tmp_path / "train" / "Cam5" / "Cam5_day_0007_1.jpg")
    found = cargo.read(tmp_path, "train")
    assert found.refused == {}
    assert found.records == (
        Record(first, "7", 5, "aerial"),
        Record(second, "4321", 5, "aerial"),
        Record(last, "7", 13, "ground"),
    )


def test_altitudes_are_what_the_tree_states(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "Cam1" / "Cam1_day_0001_0.jpg")
    touch(tmp_path / "train" / "Cam6" / "Cam6_day_0001_0.jpg")
    ids = tmp_path / "ids.json"
    stated = {
        "": [None, None],
        '{"ids": [], "crops": {}}': [None, None],
        '{"cameras": {"1": {"altitude_m": 42.5}}}': [42.5, None],
    }
    for text, wanted in stated.items():
        if text:
            ids.write_text(text)
        assert [r.altitude_m for r in cargo.read(tmp_path, "train").records] == wanted
    for text in ("[]", "{", '{"cameras": {"1": {}}}'):
        ids.write_text(text)
        with pytest.raises(InputError, match=r"ids\.json is not what"):
            cargo.read(tmp_path, "train")


def test_the_third_field_is_the_person(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "Cam1" / "Cam1_day_0042_7.jpg")
    (record,) = cargo.read(tmp_path, "train").records
    assert record.person == "42"


def test_a_picture_at_another_depth_is_refused(tmp_path: Path) -> None:
    for number in range(200):
        touch(tmp_path / "train" / "Cam1" / f"Cam1_day_0001_{number}.jpg")
    high = touch(tmp_path / "train" / "Cam1_day_0001_0.jpg")
    deep = touch(tmp_path / "train" / "Cam1" / "more" / "Cam1_day_0001_0.jpg")
    assert set(cargo.read(tmp_path, "train").refused["depth"]) == {high, deep}


def test_folders_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "Cam1_day_0001_0.jpg")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "Cam1").symlink_to(tmp_path / "elsewhere")
    (record,) = cargo.read(tmp_path, "train").records
    assert record.path == tmp_path / "train" / "Cam1" / "Cam1_day_0001_0.jpg"


def test_files_off_the_grammar_are_named_by_reason(tmp_path: Path) -> None:
    for number in range(297):
        touch(tmp_path / "query" / "Cam1" / f"Cam1_day_0001_{number}.jpg")
    name = touch(tmp_path / "query" / "Cam1" / "Cam1_dusk_0001_0.jpg")
    beyond = touch(tmp_path / "query" / "Cam14" / "Cam14_day_0001_0.jpg")
    misplaced = touch(tmp_path / "query" / "Cam2" / "Cam1_day_0001_1.jpg")
    other = touch(tmp_path / "query" / "Cam2" / "Thumbs.db")
    found = cargo.read(tmp_path, "query")
    assert len(found.records) == 297
    assert found.refused == {"name": (name,), "camera": (beyond,), "folder": (misplaced,)}
    assert found.left_out == {"no picture": (other,)}


def test_more_than_one_percent_of_a_split_refused_is_an_error(tmp_path: Path) -> None:
    for number in range(299):
        touch(tmp_path / "train" / "Cam1" / f"Cam1_day_0001_{number}.jpg")
    for name in ("Cam1_day_0001.jpg", "Cam1_day_x_1.jpg", "Cam1_day_0001_a.jpg"):
        touch(tmp_path / "train" / "Cam1" / name)
    touch(tmp_path / "train" / "Cam6" / "Cam7_day_0001_0.jpg")
    with pytest.raises(InputError) as caught:
        cargo.read(tmp_path, "train")
    assert str(caught.value) == (
        f"{tmp_path}/train: 4 of 303 pictures cannot be used, more than 1 %: "
        f"3 by name, first {tmp_path}/train/Cam1/Cam1_day_0001.jpg; "
        f"1 by folder, first {tmp_path}/train/Cam6/Cam7_day_0001_0.jpg"
    )


def test_a_missing_or_empty_split_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gallery"):
        cargo.read(tmp_path, "gallery")
    (tmp_path / "gallery" / "Cam1").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no picture"):
        cargo.read(tmp_path, "gallery")


def test_people_of_joined_data_sets_are_strangers_and_called_the_same_anywhere(
    tiny_tree: Path, tmp_path: Path
) -> None:
    for name in ("same", "other"):
        shutil.copytree(tiny_tree, tmp_path / name)
    for picture in list((tmp_path / "other" / "train").rglob("*.jpg")):
        picture.write_bytes(picture.read_bytes() + b"of others")
    here, same, other = (
        cargo.read(root, "train") for root in (tiny_tree, tmp_path / "same", tmp_path / "other")
    )
    both = joined([here, other])
    assert len(both.records) == 2 * len(here.records)
    assert len({r.person for r in both.records}) == 2 * len({r.person for r in here.records})
    assert {r.person for r in joined([other, same]).records} == {r.person for r in both.records}
    with pytest.raises(InputError, match=r"same/.*: the same data set twice"):
        joined([here, same])
