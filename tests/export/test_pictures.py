"""Which pictures ranges are taken from and a model is judged by: distinct ones of enough people."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import crops
from skyreid.export.__main__ import main
from skyreid.train.data.catalogue import Told

SPEC = InputSpec(height=16, width=8)


def data_set(root: Path, people: int = 16, shots: int = 4) -> Path:
    """CARGO-shaped: everybody before four cameras, alike in all of them."""
    random = np.random.default_rng(0)
    for person in range(people):
        look = random.integers(0, 256, (4, 3, 3), np.uint8)
        for shot in range(shots):
            camera = (1, 2, 6, 7)[shot % 4]
            folder = root / "train" / f"Cam{camera}"
            folder.mkdir(parents=True, exist_ok=True)
            picture = cv2.resize(look, (20, 40), interpolation=cv2.INTER_CUBIC).astype(float)
            picture += random.normal(0, 12, picture.shape)
            name = f"Cam{camera}_day_{person:04d}_{shot}.jpg"
            assert cv2.imwrite(str(folder / name), np.clip(picture, 0, 255).astype(np.uint8))
    return root


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.jpg") if path.name[0] != ".")


def test_black_pictures_do_not_judge_themselves(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    for path in files_of(root):
        assert cv2.imwrite(str(path), np.zeros((40, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"0 distinct pictures of 0 people .* blank, first .*jpg"):
        crops.read(root, SPEC, 32)


def test_eighty_copies_of_one_picture_are_one(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    first, *others = files_of(root)
    picture = cv2.imread(str(first))
    for index, path in enumerate(others):
        if index % 2:
            shutil.copy(first, path)
        else:  # the same, compressed anew
            assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 70 + index % 20])
    with pytest.raises(InputError, match=r"1 distinct .* duplicate, first .*jpg"):
        crops.read(root, SPEC, 32)


def test_blank_and_doubled_pictures_among_many_are_left_out_by_name(tmp_path: Path) -> None:
    root = data_set(tmp_path, shots=8)
    first, second, *_ = files_of(root)
    assert cv2.imwrite(str(first), np.full((40, 20, 3), 90, np.uint8))
    shutil.copy(files_of(root)[-1], second)
    taken = crops.read(root, SPEC, 60)
    assert f"1 by blank, first {first}" in taken.left_out
    assert "1 by duplicate" in taken.left_out
    paths = [r.path for r in (*taken.ranges.records, *taken.judge.records)]
    assert first not in paths
    assert len(set(paths)) == 120


def test_nobody_who_shows_the_ranges_judges(tmp_path: Path) -> None:
    taken = crops.read(data_set(tmp_path), SPEC, 32)
    mine, others = ({r.person for r in some.records} for some in (taken.ranges, taken.judge))
    assert mine
    assert not mine & others
    pairs = taken.judge.people[:, None] == taken.judge.people
    assert pairs.sum() > 32  # somebody is there twice: there is a gap to measure
    served = crops.read(data_set(tmp_path / "more", shots=8), SPEC, 32, "ground")
    assert {r.view for r in (*served.ranges.records, *served.judge.records)} == {"ground"}


def test_pictures_of_nobody_knows_whom_are_refused(tmp_path: Path) -> None:
    for index in range(80):
        picture = np.random.default_rng(index).integers(0, 256, (40, 20, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    with pytest.raises(InputError, match="nobody knows whom they show"):
        crops.read(tmp_path, SPEC, 32)


def test_own_people_in_folders_are_known_once_their_cameras_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were called pictures of nobody knows whom, and no option could say which cameras fly."""
    footage = tmp_path / "footage"
    for path in files_of(data_set(tmp_path / "set")):
        camera, _, person, shot = path.stem.removeprefix("Cam").split("_")
        place = footage / person / ("drone" if camera in "12" else "street")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{camera}-{shot}.jpg")
    with pytest.raises(InputError, match=r"which cameras fly: .*--aerial .*drone, street"):
        crops.read(footage, SPEC, 32)
    taken = crops.read(footage, SPEC, 32, told=Told(aerial=("drone",)))
    assert {r.view for r in taken.ranges.records} == {"aerial", "ground"}
    for verb in (
        ["quantize", "x", "-o", str(tmp_path / "out"), "--pictures"],
        ["bundle", "x", "-o", str(tmp_path / "out"), "--view", "any", "--pictures"],
        ["unfold", "x", "-o", str(tmp_path / "out.safetensors"), "--data"],
        ["verify", "x", "--data"],
    ):
        assert main([*verb, str(footage), "--aerial", "drone"]) == 2
        assert "x" in capsys.readouterr().err  # no bundle: the option was taken
    detector = ["bundle", "x.onnx", "-o", "out", "--kind", "detector", "--family", "yolox"]
    assert main([*detector, "--aerial", "drone"]) == 2
    assert "--aerial: is for embedders" in capsys.readouterr().err


def test_twins_of_a_mac_and_one_damaged_picture_do_not_end_an_export(tmp_path: Path) -> None:
    root = data_set(tmp_path, people=30, shots=8)
    for path in files_of(root)[::2]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    damaged = crops.read(root, SPEC, 100).judge.records[5].path
    damaged.write_bytes(damaged.read_bytes()[:20])
    taken = crops.read(root, SPEC, 100)
    assert f"1 by unreadable, first {damaged}" in taken.left_out
    for path in files_of(root)[:30]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="more than 1 %"):
        crops.read(root, SPEC, 100)
