"""What a source's container holds: which video is taken of it, and which way up it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.edge.video.avi import wrong_index
from skyreid.edge.video.frame import view
from skyreid.edge.video.jumps import Jumps
from skyreid.edge.video.kind import DECODE, SOURCE, TURN, Source
from skyreid.edge.video.mp4 import HIDDEN_SHARE, Film, Track, read_film
from skyreid.edge.video.mpegts import read_programs
from skyreid.edge.video.platform import first_structure
from skyreid.edge.video.stamps import Stamps

log = logging.getLogger(__name__)


class Another(Exception):
    """The video that was begun is not the one to take: to be opened anew for number ``track``."""

    def __init__(self, track: int) -> None:
        super().__init__(f"track {track}")
        self.track = track


class Container:
    """Chooses one video of what a file or a camera offers and turns it the way it was filmed."""

    def __init__(self, gst: Any, pipeline: Any, source: Source, track: int | None) -> None:
        """Set up, before the pipeline is started.

        Args:
            gst: GStreamer.
            pipeline: as ``pipeline.build`` describes it.
            source: what it reads.
            track: number of the video to take, from 1; None = the largest, of equals the first, and
                of a live source the first.
        """
        self._gst, self._source, self._track = gst, source, track
        self._turn = pipeline.get_by_name(TURN)
        if self._turn is not None:
            # Told `auto`, a videoflip copies every frame until a tag has turned it once: only then
            # does it ask itself whether frames may pass as they are. What turns it says so again.
            self._turn.set_passthrough(True)
        self._film: Film | None = None
        self._programs: tuple[int, ...] = ()
        self.videos: int | None = None
        """How many there are; None before anybody has said so."""
        self._sized = True
        self._chosen: list[int] = []
        self._taken = ""
        self._silent_end = False
        self.stamps = Stamps(gst, pipeline)
        """Of a transport stream: what stands in it."""
        self._jumps: Jumps | None = None
        decode = pipeline.get_by_name(DECODE)
        if decode is not None:
            decode.connect("select-stream", self._select)
            for made in decode.children:
                self._attach(made)
        if source.kind == "file":
            pipeline.connect("deep-element-added", self._watch)
            self._film = read_film(Path(source.target))
            self._programs = read_programs(Path(source.target))
            self._changed = self._changes()
            if self._changed is not None:
                pad = pipeline.get_by_name(SOURCE).get_static_pad("src")
                kinds = gst.PadProbeType
                pad.add_probe(kinds.BUFFER | kinds.PUSH | kinds.PULL, self._change)

    @property
    def settled(self) -> bool:
        """Whether the largest is known: a transport stream says sizes late, and one by one."""
        return self._sized

    @property
    def skipped_ns(self) -> Callable[[int], int] | None:
        """Of a transport stream: GStreamer's time to what the stream's own had skipped before."""
        if self._jumps is None:
            return None
        return partial(self._jumps.skipped_ns, self._taken)

    def check(self) -> None:
        """Say what was found out in GStreamer's threads.

        Raises:
            InputError: there is no video, or none of the number that is wanted.
            Another: a larger video turned up behind the one that was begun.
        """
        if self._track is not None and self.videos is not None and 0 < self.videos < self._track:
            raise InputError(
                f"video {self._source.name} has {self.videos} video tracks, camera.track is "
                f"{self._track}"
            )
        if self._silent_end and not self.videos and not self._source.live:
            raise InputError(f"video {self._source.name} holds no video")
        if len(self._chosen) > 1:
            raise Another(self._chosen[-1])

    def _select(self, _decode: Any, collection: Any, stream: Any) -> int:
        """Whether a stream is decoded: one video, and nothing else."""
        kind = self._gst.StreamType.VIDEO
        streams = [collection.get_stream(k) for k in range(collection.get_size())]
        videos = [s for s in streams if s.get_stream_type() & kind]
        self.videos = max(len(videos), self.videos or 0)
        if not videos:
            return 0
        number = self._track
        if self._source.live:  # of what RTSP offers one was asked for
            number = 1 if self._source.kind == "rtsp" else number or 1
        if number is None:
            areas = [_area(video) for video in videos]
            self._sized = len(areas) == 1 or all(areas)
            if any(moving := [not self._is_still(video) for video in videos]):
                areas = [area if moves else -1 for area, moves in zip(areas, moving, strict=True)]
            number = areas.index(max(areas)) + 1
            if number not in self._chosen:
                self._chosen.append(number)
        if number > len(videos) or videos[number - 1].get_stream_id() != stream.get_stream_id():
            return 0
        if self._taken != (taken := stream.get_stream_id()):
            self._taken = taken
            self._say_program(taken)
        self._orient(taken)
        return 1

    def _is_still(self, stream: Any) -> bool:
        """Whether a video is a cover or a preview: a picture, or a short track beside a long one.

        A video of JPEG pictures is one where there is no other.
        """
        caps, own = stream.get_caps(), self._track_of(stream.get_stream_id())
        if caps is not None and caps.to_string().startswith("image/"):
            return True
        if own is None or self._film is None:
            return False
        return own.share < HIDDEN_SHARE * max(track.share for track in self._film.tracks)

    def _track_of(self, stream_id: str) -> Track | None:
        number = stream_id.rpartition("/")[2]
        tracks = self._film.tracks if self._film is not None and number.isdigit() else ()
        return next((track for track in tracks if track.number == int(number)), None)

    def _orient(self, stream_id: str) -> None:
        """Turn the pictures where only the file's own headers say how."""
        track = self._track_of(stream_id)
        if track is None:
            return
        if track.direction is None:
            log.warning(
                "video %s is to be shown at an angle: it is taken as it lies", self._source.name
            )
        elif track.direction != "identity":
            self._gst.util_set_object_arg(self._turn, "video-direction", track.direction)

    def _say_program(self, stream_id: str) -> None:
        """Of several programs tsdemux reads the one whose table comes first, and ends its name."""
        if len(self._programs) > 1:
            log.warning(
                "video %s holds the programs %s: only %s is read; write the one that is wanted "
                "into a file of its own",
                self._source.name,
                ", ".join(map(str, self._programs)),
                stream_id.rpartition("/")[0].rpartition(":")[2],
            )

    def _watch(self, _bin: Any, _parent: Any, made: Any) -> None:
        factory = made.get_factory()
        if factory is not None and factory.get_name() == "tsdemux":
            self._jumps = Jumps(self._gst, made, self.stamps, self._source.name)

    def _attach(self, made: Any) -> None:
        """Let nothing into the queue before the decoders that nobody takes out of it.

        What is not decoded waits there for the video to go on: a sound that outlasts it keeps the
        file's end from coming, and one that begins before it ends the reading (not linked).
        """
        factory = made.get_factory()
        if factory is not None and factory.get_name() == "multiqueue":
            made.connect("pad-added", self._attach_pad)

    def _attach_pad(self, _queue: Any, pad: Any) -> None:
        if pad.get_direction() == self._gst.PadDirection.SINK:
            kinds = self._gst.PadProbeType
            pad.add_probe(kinds.BUFFER, self._leave_out)
            pad.add_probe(kinds.EVENT_DOWNSTREAM, self._see_end)

    def _see_end(self, _pad: Any, info: Any) -> Any:
        if info.get_event().type == self._gst.EventType.EOS and self.videos == 0:
            self._silent_end = True  # and nothing behind the decoders hears of it
        return self._gst.PadProbeReturn.OK

    def _leave_out(self, pad: Any, _info: Any) -> Any:
        stream, passed = pad.get_stream(), self._gst.PadProbeReturn
        if stream is None:
            return passed.OK
        if stream.get_stream_type() & self._gst.StreamType.VIDEO:
            if not self._taken:
                return passed.OK
            if stream.get_stream_id() == self._taken:
                return passed.REMOVE
        return passed.DROP

    def _changes(self) -> tuple[int, bytes] | None:
        """What GStreamer is to read instead of the file's own bytes from an offset on."""
        if self._film is not None and any(t.share < HIDDEN_SHARE for t in self._film.tracks):
            offset, size = self._film.length_at
            return offset, bytes(size)  # a film without a length: no track is too short for it
        index_at = wrong_index(Path(self._source.target))
        if index_at is None:
            return None
        log.warning(
            "video %s has an index that is not that of its pictures: read without it",
            self._source.name,
        )
        return index_at, b"JUNK"

    def _change(self, _pad: Any, info: Any) -> Any:
        assert self._changed is not None
        buffer = info.get_buffer()
        offset, instead = self._changed
        at = offset - int(buffer.offset)
        if 0 <= at and at + len(instead) <= buffer.get_size():
            done, mapping = buffer.map(self._gst.MapFlags.READ)
            if done:  # it was read for this one pull: nobody else has it
                view(mapping)[at : at + len(instead)] = np.frombuffer(instead, np.uint8)
                buffer.unmap(mapping)
        return self._gst.PadProbeReturn.OK


def _area(stream: Any) -> int:
    """Pixels of a stream's picture; 0 while its caps do not say it."""
    caps = stream.get_caps()
    if caps is None or caps.get_size() == 0:
        return 0
    first = first_structure(caps)
    wide, width = first.get_int("width")
    high, height = first.get_int("height")
    return int(width) * int(height) if wide and high else 0
