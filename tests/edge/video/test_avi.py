"""AVI files without an index, or with one that is not that of their pictures: all, in time."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import FPS, Video, read, write

from skyreid.edge.video.avi import wrong_index

EMPTY = b"00dc" + bytes(4)
"""A chunk that stands for a dropped frame."""
Row = tuple[bytes, int, int, int]


class Film:
    """The parts of an AVI file, put together again in another way."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        movi = data.index(b"movi")
        (size,) = struct.unpack("<I", data[movi - 4 : movi])
        self.head, self.chunks = data[: movi - 4], list[bytes]()
        at = movi + 4
        while at + 8 <= movi + size:
            (length,) = struct.unpack("<I", data[at + 4 : at + 8])
            self.chunks.append(data[at : at + 8 + length + length % 2])
            at += len(self.chunks[-1])

    def write(
        self, path: Path, chunks: list[bytes], change: Callable[[list[Row]], list[Row]] | None
    ) -> Path:
        """With an index as it should be, changed; None: without one."""
        rows, at = list[Row](), 4
        for chunk in chunks:
            (length,) = struct.unpack("<I", chunk[4:8])
            rows.append((chunk[:4], 16, at, length))
            at += len(chunk)
        out = self.head + struct.pack("<I", at) + b"movi" + b"".join(chunks)
        if change is not None:
            index = b"".join(struct.pack("<4sIII", *row) for row in change(rows))
            out += b"idx1" + struct.pack("<I", len(index)) + index
        path.write_bytes(out[:4] + struct.pack("<I", len(out) - 8) + out[8:])
        return path


def same(rows: list[Row]) -> list[Row]:
    return rows


def scattered(rows: list[Row]) -> list[Row]:
    dice = random.Random(1)
    return [(name, flags, dice.randrange(1 << 20), size) for name, flags, _, size in rows]


WRONG: dict[str, Callable[[list[Row]], list[Row]]] = {
    "leaves half of them out": lambda rows: rows[:8],
    "leaves dropped frames out": lambda rows: [row for row in rows if row[3]],
    "has them twice": lambda rows: rows * 2,
    "points anywhere": scattered,
    "points to the first one": lambda rows: [(*row[:2], 4, row[3]) for row in rows],
    "is empty": lambda rows: [],
}


@pytest.fixture
def film(tmp_path: Path, needs_gst: None) -> Film:
    return Film(write(tmp_path / "whole.avi", Video(codec="mjpeg"), kind="avi"))


@pytest.mark.parametrize("way", WRONG)
def test_an_index_that_is_not_that_of_the_pictures_is_not_believed(
    way: str, film: Film, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames were left out, read twice or too early, and nobody said so."""
    chunks = [*film.chunks[:8], *[EMPTY] * 4, *film.chunks[8:]]
    path = film.write(tmp_path / "x.avi", chunks, WRONG[way])
    times = [k / FPS for k in (*range(8), *range(12, 20))]
    assert read(path).times == pytest.approx(times, abs=0.002)
    assert "has an index that is not that of its pictures" in caplog.text


@pytest.mark.parametrize("change", [None, same], ids=["no index", "an index"])
def test_dropped_frames_of_an_avi_take_their_time_and_the_first_frame_is_the_start(
    change: Callable[[list[Row]], list[Row]] | None,
    film: Film,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = film.write(tmp_path / "x.avi", [*[EMPTY] * 12, *film.chunks], change)
    assert read(path).times == pytest.approx([k / FPS for k in range(16)], abs=0.002)
    chunks = [*film.chunks[:1], *[EMPTY] * 12, *film.chunks[1:]]
    path = film.write(tmp_path / "y.avi", chunks, change)
    times = [k / FPS for k in (0, *range(13, 28))]
    assert read(path).times == pytest.approx(times, abs=0.002)
    assert caplog.text == ""


def test_an_index_may_count_from_the_file_s_start_and_sounds_are_not_asked_for(
    film: Film, tmp_path: Path
) -> None:
    start = len(film.head) + 4
    path = film.write(
        tmp_path / "x.avi",
        film.chunks,
        lambda rows: [(name, flags, at + start, size) for name, flags, at, size in rows],
    )
    assert wrong_index(path) is None
    sound = b"01wb" + struct.pack("<I", 4) + b"loud"
    path = film.write(
        tmp_path / "y.avi",
        [*film.chunks, sound],
        lambda rows: [row for row in rows if row[0] != b"01wb"],
    )
    assert wrong_index(path) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffmovi00dc\xff\xff\xff\xff",
        b"RIFF\0\0\0\0AVI LIST\4\0\0\0moviidx1\xff\xff\xff\xff123",
        b"RIFF\0\0\0\0WAVEidx1",
        b"x" * 99,
    ],
)
def test_a_damaged_avi_is_left_to_gstreamer(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    path.write_bytes(data)
    assert wrong_index(path) in (None, 24)
