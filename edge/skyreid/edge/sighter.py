"""Frames in, sightings out: detector, tracker and collector of one camera in a row. No threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import Pose, same_picture
from skyreid.contract.device import TelemetryHealth
from skyreid.contract.errors import InputError
from skyreid.contract.picture import Picture
from skyreid.contract.recording import Recorder
from skyreid.contract.sealed import Sealer, about_picture, about_sighting
from skyreid.contract.sighting import Kind, Modality, ModelRef, Sighting, View
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.edge.delivery.rows import Row
from skyreid.edge.people.recorded import Rows
from skyreid.edge.video.frame import Frame

if TYPE_CHECKING:
    from skyreid.bundle.detections import Detections
    from skyreid.edge.people.collector import Statement
    from skyreid.edge.people.quality import Judged
    from skyreid.edge.people.tiling import Finder
    from skyreid.edge.people.tracker import Track

log = logging.getLogger(__name__)


class Detector(Protocol):
    """See `FrameDetector`."""

    def detect(self, frame: Frame) -> Detections:
        """People of a frame."""
        ...


class Tracker(Protocol):
    """See ``tracker.Tracker``."""

    def update(
        self, detections: Detections, time_s: float, motion: NDArray[np.float64] | None = None
    ) -> list[Track]:
        """Take in one frame; returns every track that is alive."""
        ...

    def begin_anew(self, number: int) -> int:
        """Somebody else goes on in a track: returns its number from the next frame on."""
        ...

    def go_on_as(self, number: int, as_number: int) -> None:
        """Somebody who was lost is found again: has the old number from the next frame on."""
        ...


class Poses(Protocol):
    """Where the camera is: ``ground.KnownPoses``, or ``telemetry.poses.TelemetryPoses``."""

    @property
    def fault(self) -> str:
        """What could not be used of what was said for the latest frame; empty = nothing."""
        ...

    @property
    def condition(self) -> TelemetryHealth | None:
        """How what is said fits the picture; None = the camera says nothing."""
        ...

    def at(self, frame: Frame) -> Pose | None:
        """The camera at a frame, asked once each, in order; None where nobody knows."""
        ...


class Collector(Protocol):
    """See ``collector.Collector``."""

    @property
    def watermark_ns(self) -> int:
        """No later statement is older than this."""
        ...

    @property
    def judged(self) -> Mapping[int, Judged]:
        """By track, what became of the crop of the latest frame."""
        ...

    @property
    def changed(self) -> Sequence[int]:
        """Tracks in which, as the latest frame told, somebody else goes on."""
        ...

    @property
    def regained(self) -> Sequence[tuple[int, int]]:
        """Tracks of whoever was lost, as the latest frame told: their number, and the old one."""
        ...

    def go_on(self, number: int, as_number: int) -> None:
        """Whoever goes on in a track of ``changed`` has another number from here on."""
        ...

    def update(self, frame: Frame, tracks: Sequence[Track], pose: Pose | None) -> list[Statement]:
        """Take in one frame's tracks."""
        ...

    def finish(self) -> list[Statement]:
        """The last word about everybody."""
        ...


class FrameDetector:
    """People of a frame, with what each of them looks like."""

    def __init__(
        self, finder: Finder, look: Callable[[NDArray[np.uint8], Detections], Detections]
    ) -> None:
        """Set up.

        Args:
            finder: finds people in a picture.
            look: a picture and its people to the people with looks: `quality.with_looks`.
        """
        self.finder, self._look = finder, look

    def detect(self, frame: Frame) -> Detections:
        """People of a frame, boxes in its pixels, best first."""
        picture = frame.rgb()
        return self._look(picture, self.finder.find(picture))


@dataclass(frozen=True)
class Identity:
    """What all sightings of a run have in common."""

    site: str
    device: str
    boot: str
    camera: str
    view: View
    model: ModelRef
    modality: Modality = Modality.UNKNOWN


@dataclass(frozen=True)
class Seen:
    """What one frame gave rise to, before anybody has numbered or written it."""

    statements: tuple[Statement, ...]
    watermark_ns: int
    """No statement of a later frame is older than this."""
    people: int = 0
    """Confirmed tracks that were detected in this frame."""
    placed: bool = True
    """False where the camera should have a pose and has none for this frame."""
    fault: str = ""
    """What could not be used of the telemetry that came with this frame."""
    cut: int = 0
    """Tracks that ended here because somebody else goes on in them, under another number."""


class Follower:
    """Detector, tracker and collector of one camera in a row: frames in, statements out."""

    def __init__(
        self,
        camera: str,
        detector: Detector,
        follow: Callable[[], tuple[Tracker, Collector]],
        *,
        recorder: Recorder | None = None,
        poses: Poses | None = None,
        frame_size: tuple[int, int] | None = None,
        live: bool = False,
    ) -> None:
        """See `Sighter`; ``camera`` is its name."""
        self._camera, self._detector, self._follow = camera, detector, follow
        self._poses, self._frame_size, self._live = poses, frame_size, live
        self._tracker, self._collector = follow()
        self._size: tuple[int, int] | None = None
        self._first_ns: int | None = None
        self._offset = self._highest = 0
        self.tracks: list[Track] = []
        """Everybody who is followed in the latest frame; no number is ever somebody else's."""
        self._rows = None if recorder is None else Rows(recorder)
        self.pose: Pose | None = None
        """Where the camera was then."""

    def look(self, frame: Frame) -> Seen:
        """Take in one frame. The frame is not needed afterwards.

        Raises:
            InputError: the frame of a file cannot be the picture that the camera's poses are for.
        """
        before = self._resize(frame)
        if self._first_ns is None:
            self._first_ns = frame.captured_at_ns
        detections = self._detector.detect(frame)
        time_s = (frame.captured_at_ns - self._first_ns) / 1e9
        pose = None if self._poses is None else self._poses.at(frame)
        self.pose = pose
        tracks = self._tracker.update(detections, time_s, None if pose is None else pose.motion)
        self.tracks = [self._renumbered(t) for t in tracks]
        self._highest = max([self._highest, *(t.number for t in tracks)])
        seen = [t for t in self.tracks if t.confirmed and t.detected]
        if self._rows is not None:
            self._rows.add(frame, detections, seen, pose)
        statements = self._stated(self._collector.update(frame, tracks, pose))
        changed = list(self._collector.changed)
        for number in changed:
            self._collector.go_on(number, self._tracker.begin_anew(number))
        followed = {t.number for t in tracks}
        for number, as_number in self._collector.regained:
            if number in followed:
                self._tracker.go_on_as(number, as_number)
        self._record(statements, self.tracks)
        return Seen(
            before + statements,
            max(self._collector.watermark_ns, 1),
            len(seen),
            self._poses is None or pose is not None,
            "" if self._poses is None else self._poses.fault,
            len(changed),
        )

    @property
    def judged(self) -> Mapping[int, Judged]:
        """By track, what became of the crop of the latest frame."""
        return {n + self._offset: said for n, said in self._collector.judged.items()}

    def telemetry(self) -> TelemetryHealth | None:
        """How what the camera says of itself fits its picture; None = it says nothing."""
        return None if self._poses is None else self._poses.condition

    def finish(self) -> Seen:
        """The video is over: the last word about everybody."""
        said = Seen(self._stated(self._collector.finish()), self._collector.watermark_ns)
        self._record(said.statements, ())
        return said

    def restart(self) -> Seen:
        """Nobody can be followed from here on into what comes: the last word about everybody."""
        said = self.finish()
        self._offset += self._highest
        self._highest = 0
        self._first_ns = None
        self._tracker, self._collector = self._follow()
        return said

    def _record(self, said: Sequence[Statement], followed: Sequence[Track]) -> None:
        if self._rows is not None:
            self._rows.write(said, followed, self._collector.regained, self._offset)

    def _resize(self, frame: Frame) -> tuple[Statement, ...]:
        """Another size is another picture: nobody can be followed from one into the other."""
        size = frame.width, frame.height
        if size == self._size:
            return ()
        wanted = self._frame_size
        if wanted is not None and not same_picture(size, wanted):
            fault = (
                f"camera {self._camera}: frames are {size[0]}x{size[1]}, its poses in the "
                f"site file are for {wanted[0]}x{wanted[1]}"
            )
            if not self._live:
                raise InputError(fault)
            log.warning("%s: its people have no place on the ground", fault)
        first, self._size = self._size is None, size
        return () if first else self.restart().statements

    def _renumbered(self, track: Track) -> Track:
        return replace(track, number=track.number + self._offset) if self._offset else track

    def _stated(self, statements: Sequence[Statement]) -> tuple[Statement, ...]:
        return tuple(
            replace(s, sighting=replace(s.sighting, track=s.sighting.track + self._offset))
            if self._offset
            else s
            for s in statements
        )


@dataclass(frozen=True)
class Said:
    """What one frame gave rise to."""

    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...]
    watermark_ns: int
    """No sighting of a later frame is older than this."""
    people: int = 0
    """Confirmed tracks that were detected in this frame."""
    placed: bool = True
    """False where the camera should have a pose and has none for this frame."""
    fault: str = ""
    """What could not be used of the telemetry that came with this frame."""
    cut: int = 0
    """Tracks that ended here because somebody else goes on in them, under another number."""


class Sighter:
    """Makes the sightings of one camera, numbers them, and records whom it saw."""

    def __init__(
        self,
        identity: Identity,
        detector: Detector,
        follow: Callable[[], tuple[Tracker, Collector]],
        *,
        recorder: Recorder | None = None,
        encode_picture: Callable[[NDArray[np.uint8]], bytes] | None = None,
        poses: Poses | None = None,
        frame_size: tuple[int, int] | None = None,
        live: bool = False,
        sealer: Sealer | None = None,
    ) -> None:
        """Set up.

        Args:
            identity: what all sightings have in common.
            detector: finds people.
            follow: makes a tracker and a collector; called again when the frames' size changes.
            recorder: takes detections and tracks; of sightings see `recorded`.
            encode_picture: RGB picture to JPEG; None = no picture leaves the device.
            poses: where the camera is; None = nobody has a place on the ground.
            frame_size: width and height that the poses are for, where they are for one.
            live: nobody is there to mend what does not fit: it goes on as far as it can.
            sealer: seals sightings and pictures before anybody else has them; None = in clear.
        """
        self._identity, self._encode_picture, self._sealer = identity, encode_picture, sealer
        self.follower = Follower(
            identity.camera,
            detector,
            follow,
            recorder=recorder,
            poses=poses,
            frame_size=frame_size,
            live=live,
        )
        """Whom it follows, and what became of their crops."""
        self._watermark_ns = 1
        self._shown: dict[int, NDArray[np.uint8]] = {}
        self.seq = 0
        """Sightings so far; also the last one's number."""

    def look(self, frame: Frame) -> Said:
        """Take in one frame. The frame is not needed afterwards.

        Raises:
            InputError: the frame of a file cannot be the picture that the camera's poses are for.
        """
        return self._say(self.follower.look(frame))

    def finish(self) -> Said:
        """The video is over: the last word about everybody."""
        return self._say(self.follower.finish())

    def _say(self, seen: Seen) -> Said:
        rows: list[Row] = []
        pictures: list[Picture] = []
        for statement in seen.statements:
            self.seq += 1
            sighting = replace(statement.sighting, seq=self.seq)
            data = encode_sighting(sighting)
            if self._sealer is not None:
                about = about_sighting(self._identity.boot, self.seq)
                data = self._sealer.seal(data, about, self.seq)
            rows.append(Row(self.seq, self._watermark_ns, data))
            pictures.extend(self._picture(statement, sighting))
        self._watermark_ns = max(seen.watermark_ns, self._watermark_ns)
        return Said(
            tuple(rows),
            tuple(pictures),
            self._watermark_ns,
            seen.people,
            seen.placed,
            seen.fault,
            seen.cut,
        )

    def _picture(self, statement: Statement, sighting: Sighting) -> list[Picture]:
        """The tracklet's best picture, where it is another one than last time."""
        picture = statement.picture
        if self._encode_picture is None:
            return []
        last = self._shown.get(sighting.track)
        self._shown[sighting.track] = picture
        if sighting.kind is Kind.END:  # nothing more is said of it
            del self._shown[sighting.track]
        if picture is last:
            return []
        boot, seq = self._identity.boot, sighting.seq
        key = boot, sighting.camera, sighting.track, seq, sighting.captured_at_ns
        jpeg = self._encode_picture(picture)
        if self._sealer is not None:
            jpeg = self._sealer.seal(jpeg, about_picture(*key), seq)
        return [Picture(*key, jpeg)]
