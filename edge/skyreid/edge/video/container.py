"""What a source's container holds: which video is taken of it, and which way up it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError
from skyreid.edge.video.frame import view
from skyreid.edge.video.mp4 import HIDDEN_SHARE, Film, read_film
from skyreid.edge.video.pipeline import DECODE, SOURCE, TURN, Source

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
            track: number of the video to take, from 1; None = the largest, of equals the first.
        """
        self._gst, self._source, self._track = gst, source, track
        self._turn = pipeline.get_by_name(TURN)
        self._film: Film | None = None
        self.videos: int | None = None
        """How many there are; None before anybody has said so."""
        self._sized = True
        self._chosen: list[int] = []
        decode = pipeline.get_by_name(DECODE)
        if decode is not None:
            decode.connect("select-stream", self._select)
        if source.kind == "file":
            self._film = read_film(Path(source.target))
            if self._film is not None and any(t.share < HIDDEN_SHARE for t in self._film.tracks):
                pad = pipeline.get_by_name(SOURCE).get_static_pad("src")
                kinds = gst.PadProbeType
                pad.add_probe(kinds.BUFFER | kinds.PUSH | kinds.PULL, self._unhide)

    @property
    def settled(self) -> bool:
        """Whether the largest is known: a transport stream says sizes late, and one by one."""
        return self._sized

    def check(self) -> None:
        """Say what was found out in GStreamer's threads.

        Raises:
            InputError: there is no video of the number that is wanted.
            Another: a larger video turned up behind the one that was begun.
        """
        if self._track is not None and self.videos is not None and 0 < self.videos < self._track:
            raise InputError(
                f"video {self._source.name} has {self.videos} video tracks, camera.track is "
                f"{self._track}"
            )
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
        if number is None or self._source.live:  # of a camera rtsp.py has chosen
            areas = [_area(video) for video in videos]
            self._sized = len(areas) == 1 or all(areas)
            number = areas.index(max(areas)) + 1
            if number not in self._chosen:
                self._chosen.append(number)
        if number > len(videos) or videos[number - 1].get_stream_id() != stream.get_stream_id():
            return 0
        self._orient(stream.get_stream_id())
        return 1

    def _orient(self, stream_id: str) -> None:
        """Turn the pictures where only the file's own headers say how."""
        number = stream_id.rpartition("/")[2]
        if self._film is None or not number.isdigit():
            return
        for track in self._film.tracks:
            if track.number != int(number):
                continue
            if track.direction is None:
                log.warning(
                    "video %s is to be shown at an angle: it is taken as it lies", self._source.name
                )
            elif track.direction != "identity":
                self._gst.util_set_object_arg(self._turn, "video-direction", track.direction)

    def _unhide(self, _pad: Any, info: Any) -> Any:
        """Let the film have no length, so that no track is too short for it."""
        assert self._film is not None
        buffer = info.get_buffer()
        offset, size = self._film.length_at
        at = offset - int(buffer.offset)
        if 0 <= at and at + size <= buffer.get_size():
            done, mapping = buffer.map(self._gst.MapFlags.READ)
            if done:  # it was read for this one pull: nobody else has it
                view(mapping)[at : at + size] = 0
                buffer.unmap(mapping)
        return self._gst.PadProbeReturn.OK


def _area(stream: Any) -> int:
    """Pixels of a stream's picture; 0 while its caps do not say it."""
    caps = stream.get_caps()
    if caps is None or caps.get_size() == 0:
        return 0
    first = caps.get_structure(0)
    wide, width = first.get_int("width")
    high, height = first.get_int("height")
    return int(width) * int(height) if wide and high else 0
