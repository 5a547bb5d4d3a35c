"""A recorded run: what an edge process saw and sent, on disk. One format for every role.

::

    DIR/run.json             device, boot, camera, view, bundle, start, when it ended, drop counters
    DIR/detections/cam1.txt  MOTChallenge rows: frame (from 1), -1, x, y, w, h, score, -1, -1, -1
    DIR/tracks/cam1.txt      MOTChallenge rows with the track's number as identity
    DIR/poses/cam1.txt       of a camera that says where it is, a row a frame: capture time (UTC,
                             ns), width, height, K, R (row by row) and t of `CameraModel`
    DIR/traffic.bin          every sighting produced, a message of one each: see ``traffic``

Up to 0.1.0 sightings were in ``sightings.bin`` (uint32 LE length + SightingBatch of one), which is
still read.

Boxes are pixels of the decoded frame, as MOTChallenge has them (x, y, width, height).
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from skyreid.contract import files, topics
from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.sealed import Opener
from skyreid.contract.sighting import SightingBatch
from skyreid.contract.sighting_wire import decode_batch
from skyreid.contract.traffic import Recorded, TrafficWriter, read_traffic

_SIGHTINGS = "sightings.bin"
_LENGTH = struct.Struct("<I")
_MOT_MAX = float(1 << 53)
"""Up to which frames and identities are whole numbers in a float64."""


class RunInfo(BaseModel):
    """``run.json``: who made the recording, and how it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = 1
    site: str
    device: str
    boot: str
    camera: str
    view: str
    source: str
    start_ns: int
    """Capture time of the first frame."""
    model_key: str
    bundles: tuple[str, ...] = ()
    """SHA-256 of each bundle's SHA256SUMS."""
    displaced: tuple[float, float, float, float, float, float] = (0, 0, 0, 0, 0, 0)
    """By what the settings put `poses` right against what the camera said: `CameraModel.displaced`.
    """
    ended: bool = False
    """False while the run goes on, and for ever when it was killed."""
    frames: int = 0
    sightings: int = 0
    dropped: dict[str, int] = {}
    """What was left out, by reason."""
    seconds: float = 0.0
    """Wall time."""


@dataclass(frozen=True, eq=False)
class MotRows:
    """MOTChallenge rows as parallel arrays, sorted by frame.

    frame int64 [N] (from 1), identity int64 [N] (-1 for detections), box_xyxy float64 [N, 4] in
    pixels, score float64 [N], visibility float64 [N] (1 where the file has none).
    """

    frame: NDArray[np.int64]
    identity: NDArray[np.int64]
    box_xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    visibility: NDArray[np.float64]


def read_mot(path: Path, *, truth: bool = False) -> MotRows:
    """Read a MOTChallenge text file; ``truth`` says that column 9 is the visibility.

    Raises:
        InputError: the file is missing or a row does not parse.
    """
    rows: list[list[float]] = []
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"MOT rows {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"MOT rows {path}: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(v) for v in line.split(",")]
        except ValueError as error:
            raise InputError(
                f"MOT rows {path}, line {number}: {line!r:.200} is not numbers"
            ) from error
        if not all(math.isfinite(v) and abs(v) <= _MOT_MAX for v in values):
            raise InputError(
                f"MOT rows {path}, line {number}: {line!r:.200} is not finite, or beyond 2^53"
            )
        if len(values) < 7:
            raise InputError(f"MOT rows {path}, line {number}: {len(values)} columns, at least 7")
        rows.append([*values, 1.0, 1.0][:9])
    table = np.array(rows, float).reshape(-1, 9)
    table = table[np.argsort(table[:, 0], kind="stable")]
    corner, size = table[:, 2:4], table[:, 4:6]
    return MotRows(
        frame=table[:, 0].astype(np.int64),
        identity=table[:, 1].astype(np.int64),
        box_xyxy=np.concatenate([corner, corner + size], 1),
        score=table[:, 6],
        visibility=table[:, 8] if truth else np.ones(len(table)),
    )


def mot_row(frame: int, identity: int, box_xyxy: Sequence[float], score: float) -> str:
    """One MOTChallenge row without its newline."""
    x0, y0, x1, y1 = box_xyxy
    return f"{frame},{identity},{x0:.1f},{y0:.1f},{x1 - x0:.1f},{y1 - y0:.1f},{score:.3f},-1,-1,-1"


class Recorder:
    """Writes a recorded run; every row reaches the disk in order, ``run.json`` first and last."""

    def __init__(self, directory: Path, info: RunInfo) -> None:
        if (directory / "run.json").exists():
            raise InputError(f"recording {directory}: there is one already, give a new directory")
        self._directory, self._info = directory, info
        self._write_info(info)
        for part in ("detections", "tracks"):
            (directory / part).mkdir(exist_ok=True)
        # Held open for the run, closed in close(): not a job for a with block.
        self._detections = open(directory / "detections" / f"{info.camera}.txt", "w")
        self._tracks = open(directory / "tracks" / f"{info.camera}.txt", "w")
        self._poses: IO[str] | None = None
        self._traffic = TrafficWriter(directory)
        self._topic = topics.device(info.site, info.device, "sightings")

    def detections(self, frame: int, boxes: NDArray[Any], scores: NDArray[Any]) -> None:
        """Add one frame's detections: boxes [N, 4] xyxy pixels, scores [N]."""
        for box, score in zip(boxes, scores, strict=True):
            self._detections.write(mot_row(frame, -1, box, float(score)) + "\n")

    def tracks(self, frame: int, rows: Iterable[tuple[int, Sequence[float], float]]) -> None:
        """Add one frame's tracks: (track, box xyxy in pixels, score)."""
        for track, box, score in rows:
            self._tracks.write(mot_row(frame, track, box, score) + "\n")

    def pose(self, captured_at_ns: int, model: CameraModel) -> None:
        """Add where a camera said it was when a frame was captured."""
        if self._poses is None:
            (self._directory / "poses").mkdir(exist_ok=True)
            self._poses = open(self._directory / "poses" / f"{self._info.camera}.txt", "w")
        numbers = [*model.matrix.flat, *model.rotation.flat, *model.translation]
        said = [captured_at_ns, model.width_px, model.height_px, *(f"{n:.9g}" for n in numbers)]
        self._poses.write(",".join(map(str, said)) + "\n")

    def sighting(self, batch: bytes) -> None:
        """Add an encoded batch, before it is sent; flushed, so that it survives a kill."""
        self._traffic.add(TrafficWriter.encode(Recorded(time.time_ns(), self._topic, batch)))
        self._traffic.flush()

    def close(self, **outcome: Any) -> None:
        """Write ``run.json`` again with how the run ended (fields of ``RunInfo``)."""
        self._close()
        self._write_info(self._info.model_copy(update={"ended": True, **outcome}))

    def _write_info(self, info: RunInfo) -> None:
        files.write(self._directory / "run.json", (info.model_dump_json(indent=1) + "\n").encode())

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for stream in (self._detections, self._tracks, self._traffic, self._poses):
            if stream is not None:
                stream.close()


def read_said_poses(directory: Path, camera: str) -> tuple[list[int], list[CameraModel]]:
    """Capture times, ascending, and where a camera said it was, but the row that a kill cut.

    What the settings of then put it right by is taken off again.

    Raises:
        InputError: the recording has none, or a row is none.
    """
    path = directory / "poses" / f"{camera}.txt"
    by = np.array(read_run(directory).displaced)
    try:
        lines = path.read_text().split("\n")[:-1]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"recording {path}: {why}; a device with telemetry.source writes it (run --record)"
        ) from error
    times, models = list[int](), list[CameraModel]()
    for number, line in enumerate(lines, 1):
        try:
            time_ns, width, height = (int(word) for word in line.split(",")[:3])
            numbers = np.array([float(word) for word in line.split(",")[3:]])
            if numbers.size != 21 or not np.isfinite(numbers).all() or min(width, height) < 1:
                raise ValueError("no camera")
            if times and time_ns <= times[-1]:
                continue  # a clock was put right
        except ValueError as error:
            raise InputError(f"recording {path}, line {number}: {error}") from error
        matrix, rotation = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3)
        times.append(time_ns)
        models.append(CameraModel(matrix, rotation, numbers[18:], width, height).displaced(-by))
    return times, models


def read_run(directory: Path) -> RunInfo:
    """Read ``run.json``.

    Raises:
        InputError: it is missing or not one.
    """
    path = directory / "run.json"
    try:
        return RunInfo.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"recording {path}: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"recording {path}: {error.errors()[0]['msg']}") from error


def read_sightings(directory: Path, opener: Opener | None = None) -> Iterator[SightingBatch]:
    """Every recorded batch in order; a record cut short by a kill ends the iteration.

    A device that seals records what it seals; ``opener`` opens it.

    Raises:
        InputError: the recording has none.
        MessageError: a whole record does not decode.
    """
    info = read_run(directory)
    if (directory / _SIGHTINGS).exists():
        records = _read_lengths(directory / _SIGHTINGS)
    else:
        records = (message.payload for message in read_traffic(directory))
    for data in records:
        yield decode_batch(data, site=info.site, device=info.device, opener=opener)


def _read_lengths(path: Path) -> Iterator[bytes]:
    """The records of ``sightings.bin``."""
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise InputError(f"recording {path}: {error.strerror}") from error
    with stream:
        while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            data = stream.read(length)
            if len(data) < length:
                return
            yield data
