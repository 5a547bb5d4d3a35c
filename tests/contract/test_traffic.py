"""Recorded traffic: what is written is read back, after a kill too; damage is said."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.errors import InputError
from skyreid.contract.traffic import Recorded, TrafficWriter, read_traffic

FIRST = Recorded(1_700_000_000_000_000_001, "skyreid/v1/plaza/dev/uav-1/status", b"online")
SECOND = Recorded(
    2, "skyreid/v1/plaza/dev/uav-1/sightings", b"\xff\0", {"\ufeff": "\ud800", "": ""}
)


def written(directory: Path, *messages: Recorded) -> Path:
    with TrafficWriter(directory) as writer:
        for message in messages:
            writer.add(TrafficWriter.encode(message))
        writer.flush()
        assert writer.size_bytes == (directory / "traffic.bin").stat().st_size
    return directory / "traffic.bin"


def test_traffic_reads_back_whatever_its_properties_are(tmp_path: Path) -> None:
    written(tmp_path / "new" / "folder", FIRST, SECOND)
    assert list(read_traffic(tmp_path / "new" / "folder")) == [FIRST, SECOND]


def test_a_message_cut_short_by_a_kill_ends_the_recording(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, SECOND)
    whole, first = path.read_bytes(), len(TrafficWriter.encode(FIRST)) + 18
    for length in (first, first + 3, first + 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert list(read_traffic(tmp_path)) == [FIRST]


@given(at=st.integers(18, 18 + len(TrafficWriter.encode(FIRST)) - 1), bit=st.integers(0, 7))
def test_a_damaged_bit_is_never_another_message(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    path = written(directory, FIRST, SECOND)
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
    got: list[Recorded] = []
    with suppress(InputError):  # or it looks cut short
        got.extend(read_traffic(directory))
    assert got == []


def test_what_is_no_recording_and_what_is_one_already_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(read_traffic(tmp_path))
    written(tmp_path, FIRST)
    with pytest.raises(InputError, match="give a new directory"):
        TrafficWriter(tmp_path)
    (tmp_path / "traffic.bin").write_bytes(b"something else entirely")
    with pytest.raises(InputError, match="does not begin with skyreid traffic 1"):
        list(read_traffic(tmp_path))
