import resource
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data import cargo, pictures
from skyreid.train.data.records import Record

SPEC = InputSpec(height=32, width=16)


def many(root: Path, count: int, broken: list[int]) -> list[Record]:
    """Pictures of grey level 0, 1, 2 and so on, some of which are none."""
    folder = root / "pictures"
    folder.mkdir()
    records = []
    for index in range(count):
        path = folder / f"{index:03d}.png"
        if index in broken:
            path.write_bytes(b"not a picture")
        else:
            assert cv2.imwrite(str(path), np.full((32, 16, 3), index, np.uint8))
        records.append(Record(path, "1", 1, "ground"))
    return records


def test_pictures_are_rgb_and_resized_by_the_contract(tiny_tree: Path) -> None:
    records = cargo.read(tiny_tree, "train").records[:3]
    images = pictures.load(records, SPEC).images
    assert images.shape == (3, 32, 16, 3)
    bgr = cv2.imread(str(records[0].path))
    assert bgr is not None
    np.testing.assert_array_equal(images[0], fit(np.ascontiguousarray(bgr[..., ::-1]), SPEC))
    assert images[0].mean((0, 1)).argmax() == 0  # person 1 wears red


def test_the_cache_is_used_until_a_picture_changes(tiny_tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "train" / "Cam1"
    copy.mkdir(parents=True)
    source = next((tiny_tree / "train" / "Cam1").iterdir())
    (copy / source.name).write_bytes(source.read_bytes())
    records = cargo.read(tmp_path, "train").records
    first = pictures.load(records, SPEC, tmp_path / "cache").images
    (stored,) = (tmp_path / "cache").iterdir()
    np.save(stored, np.zeros_like(first))
    assert not pictures.load(records, SPEC, tmp_path / "cache").images.any()
    assert cv2.imwrite(str(copy / source.name), np.full((50, 25, 3), 77, np.uint8))
    changed = pictures.load(records, SPEC, tmp_path / "cache").images
    assert changed.mean() == pytest.approx(77, abs=2)


def test_runs_that_share_a_cache_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = many(tmp_path, 20, broken=[])
    together, reads = threading.Barrier(4), []

    def slowly(path: Path) -> pictures.UInt8:
        reads.append(path)
        time.sleep(0.01)  # time enough for the others to find nothing there
        return read_rgb(path)

    def run(_: int) -> pictures.UInt8:
        together.wait()
        return pictures.load(records, SPEC, cache).images

    read_rgb, cache = pictures.read_rgb, tmp_path / "cache"
    monkeypatch.setattr(pictures, "read_rgb", slowly)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(run, range(4))
    assert reads == [record.path for record in records]
    assert all(np.array_equal(first, other) for other in others)
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_damaged_cache_is_made_again(tmp_path: Path, left: int) -> None:
    records = many(tmp_path, 20, broken=[])
    first = pictures.load(records, SPEC, tmp_path / "cache").images.copy()
    (stored,) = (tmp_path / "cache").iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:left])
    assert np.array_equal(pictures.load(records, SPEC, tmp_path / "cache").images, first)
    assert stored.read_bytes() == whole


def test_a_list_of_unread_pictures_does_not_outlive_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = many(tmp_path, 20, broken=[])
    pictures.load(records, SPEC, tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    stored.with_suffix(".unread").write_text("7")
    pictures.load(records, SPEC, tmp_path / "cache")
    monkeypatch.setattr(pictures, "read_rgb", lambda path: pytest.fail(f"{path} read again"))
    assert len(pictures.load(records, SPEC, tmp_path / "cache").images) == 20


def test_what_a_killed_run_left_in_the_cache_is_written_over(tmp_path: Path) -> None:
    records = many(tmp_path, 20, broken=[])
    first = pictures.load(records, SPEC, tmp_path / "cache").images
    (stored,) = (tmp_path / "cache").iterdir()
    stored.rename(stored.with_name(f".{stored.name}.partial"))
    for _ in range(2):  # made again, then from the cache
        assert np.array_equal(pictures.load(records, SPEC, tmp_path / "cache").images, first)
    assert list((tmp_path / "cache").iterdir()) == [stored]


def test_up_to_one_percent_unreadable_is_left_out_and_named(tmp_path: Path) -> None:
    records = many(tmp_path, 100, broken=[41])
    for _ in range(2):  # read, then from the cache
        found = pictures.load(records, SPEC, tmp_path / "cache")
        assert found.unreadable == (records[41].path,)
        assert found.kept.tolist() == [i for i in range(100) if i != 41]
        assert found.records == (*records[:41], *records[42:])
        grey = found.images.mean((1, 2, 3))
        np.testing.assert_allclose(grey, found.kept, atol=2)
        assert [found.left_of(count) for count in (0, 41, 42, 50, 100)] == [0, 41, 41, 49, 99]
    assert (tmp_path / "cache").is_dir()


def test_more_than_one_percent_unreadable_is_an_error(tmp_path: Path) -> None:
    records = many(tmp_path, 100, broken=[7, 41])
    records[41].path.unlink()
    with pytest.raises(InputError) as caught:
        pictures.load(records, SPEC, tmp_path / "cache")
    assert str(caught.value) == (
        f"what was read below {tmp_path}/pictures: 2 of 100 pictures cannot be used, "
        f"more than 1 %: 2 by unreadable, first {records[7].path}"
    )


def test_what_the_reader_refused_counts_with_the_unreadable(tmp_path: Path) -> None:
    records = many(tmp_path, 100, broken=[7])
    with pytest.raises(InputError, match=r"2 of 101 .* 1 by name, first x.jpg; 1 by unreadable"):
        pictures.load(records, SPEC, refused={"name": (Path("x.jpg"),)})


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(InputError, match="no pictures"):
        pictures.load([], SPEC)


def test_a_header_that_claims_too_many_pixels_is_a_broken_picture(tmp_path: Path) -> None:
    done, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    assert done
    content = bytearray(data.tobytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot decode .*huge\.png"):
        pictures.read_rgb(tmp_path / "huge.png")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"x\.jpg"):
        pictures.read_rgb(path)


def test_a_disk_that_fills_up_leaves_no_half_of_a_cache(tmp_path: Path) -> None:
    records = many(tmp_path, 60, broken=[])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*\.npy: .*; nothing was changed"):
            pictures.load(records, SPEC, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(pictures.load(records, SPEC, tmp_path / "cache").images) == 60


def test_a_cache_is_one_file_that_is_mapped_and_no_process_changes_it_for_another(
    tmp_path: Path,
) -> None:
    records = many(tmp_path, 100, broken=[41])
    one, two = (pictures.load(records, SPEC, tmp_path / "cache") for _ in range(2))
    assert one.stored is not None
    assert sorted((tmp_path / "cache").iterdir()) == [
        one.stored, one.stored.with_suffix(".unread"),
    ]  # fmt: skip
    assert str(one.stored) in Path("/proc/self/maps").read_text()
    before = two.images.copy()
    one.images[:] = 3
    np.testing.assert_array_equal(two.images, before)
    np.testing.assert_array_equal(np.load(one.stored), before)  # NumPy's own reader, and whole
    np.testing.assert_array_equal(pictures.load(records, SPEC).images, before)


def test_a_disk_too_small_for_the_cache_is_said_before_a_picture_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = many(tmp_path, 20, broken=[])
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: SimpleNamespace(free=30_719))
    monkeypatch.setattr(pictures, "read_rgb", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(InputError, match=r"20 pictures take 0.03 MB, and 0.03 MB .* --cache"):
        pictures.load(records, SPEC, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: SimpleNamespace(free=30_720))
    assert len(pictures.load(records, SPEC, tmp_path / "cache").images) == 20
