"""Takes the erased out of a recording, of a site (``record``) or of a device (``run --record``)."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from skyreid.contract import files, topics
from skyreid.contract.errors import InputError, MessageError
from skyreid.contract.files import replacing
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import decode_picture
from skyreid.contract.receipt import BOOT_PROPERTY, SEQS_PROPERTY, batch_properties
from skyreid.contract.recording import read_run
from skyreid.contract.sealed import Opener
from skyreid.contract.sighting_wire import decode_usable, encode_raw_batch
from skyreid.contract.traffic import MAGIC, TRAFFIC, Recorded, TrafficWriter, read_traffic


def forget_in(directory: Path, erased: Collection[TrackKey], opener: Opener | None = None) -> int:
    """Write a recording anew without the sightings and pictures of these tracklets; how many went.

    ``opener`` looks into what is sealed; what stays, stays sealed. What cannot be read and comes of
    a device of one of them goes too: it may be theirs. Of a device's recording their rows of
    ``tracks`` go as well; its ``detections`` are boxes of nobody. A new file takes an old one's
    place, with its mode, once it is on the disk.

    Raises:
        InputError: there is no recording, it is damaged or being written, or the disk is full.
    """
    path = directory / TRAFFIC
    gone = 0
    try:
        with _taken(directory) as old:
            mode = stat.S_IMODE(os.fstat(old.fileno()).st_mode)
            with replacing(path, mode=mode) as partial, open(partial, "wb") as new:
                new.write(MAGIC)
                for message in read_traffic(directory):
                    kept, removed = _without(message, erased, opener)
                    gone += removed
                    if kept is not None:
                        new.write(TrafficWriter.encode(kept))
            gone += _forget_tracks(directory, erased)
    except OSError as error:
        raise InputError(f"recording {path}: {error.strerror}") from error
    return gone


def require_whole(directory: Path) -> None:
    """Raise `InputError` where `forget_in` would, but for a disk that is full by then."""
    with _taken(directory):
        for _ in read_traffic(directory):
            pass


@contextmanager
def _taken(directory: Path) -> Iterator[IO[bytes]]:
    """A recording that nobody writes meanwhile."""
    try:
        file = open(directory / TRAFFIC, "rb")
    except OSError as error:
        raise InputError(f"recording {directory / TRAFFIC}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            said = "it is being written; end that first"
            raise InputError(f"recording {directory}: {said}") from error
        yield file


def _forget_tracks(directory: Path, erased: Collection[TrackKey]) -> int:
    """Where a device wrote the recording: without the rows of these tracklets; how many went."""
    if not (directory / "run.json").exists():
        return 0
    info, gone = read_run(directory), 0
    numbers = {
        str(key.track)
        for key in erased
        if (key.device, key.boot, key.camera) == (info.device, info.boot, info.camera)
    }
    path = directory / "tracks" / f"{info.camera}.txt"
    if numbers and path.exists():
        rows = path.read_text().splitlines(keepends=True)
        kept = [row for row in rows if not numbers.intersection(row.split(",")[1:2])]
        gone = len(rows) - len(kept)
        if gone:
            files.write(path, "".join(kept).encode(), mode=stat.S_IMODE(path.stat().st_mode))
    return gone


def _without(
    message: Recorded, erased: Collection[TrackKey], opener: Opener | None
) -> tuple[Recorded | None, int]:
    """The message without them, None where nothing of it is left; how many things went."""
    try:
        topic = topics.parse_device(message.topic)
    except MessageError:
        return message, 0
    if all(key.device != topic.device for key in erased):
        return message, 0
    try:
        if topic.channel == "picture":
            picture = decode_picture(
                message.payload, message.properties, device=topic.device, opener=opener
            )
            key = TrackKey(topic.device, picture.boot, picture.camera, picture.track)
            return (None, 1) if key in erased else (message, 0)
        if topic.channel != "sightings":
            return message, 0
        decoded = decode_usable(
            message.payload, site=topic.site, device=topic.device, opener=opener
        )
    except MessageError:
        return None, 1
    batch = decoded.batch
    kept = [
        (seen.seq, record)
        for seen, record in zip(batch.sightings, decoded.came, strict=True)
        if TrackKey(batch.device, batch.boot, seen.camera, seen.track) not in erased
    ]
    gone = len(batch.sightings) - len(kept) + len(decoded.unusable)
    if not gone:
        return message, 0
    # What is said beside the bytes as well: who replays it waits for an answer for each number.
    beside = dict(message.properties)
    if BOOT_PROPERTY in beside and SEQS_PROPERTY in beside:
        del beside[BOOT_PROPERTY], beside[SEQS_PROPERTY]
        beside |= batch_properties(batch.boot, [seq for seq, _ in kept]) if kept else {}
    payload = encode_raw_batch(batch, [record for _, record in kept])
    return replace(message, payload=payload, properties=beside), gone
