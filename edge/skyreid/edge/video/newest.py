"""A live source read in a thread of its own: the newest wins, whoever comes late finds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Protocol

from skyreid.contract.errors import SkyreidError
from skyreid.edge.video.frame import Frame

SILENT_S = 30.0
"""A reading thread that does nothing for longer than it may hangs, and does not come back."""
LEAVE_S = 1.5
"""At the end its reader is waited for so long, then it is left behind."""
_STEP_S = 0.2


class Source(Protocol):
    """See ``source.GstSource``."""

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were not handed out, by reason."""
        ...

    def silent_s(self) -> float:
        """For how long the reading thread has done nothing that it should have done."""
        ...

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """Frames in order; the taker releases each."""
        ...


class Newest:
    """Between the thread that reads, which may never come back, and the one that looks."""

    def __init__(
        self, source: Source, stop: threading.Event, overtaken: Callable[[], None]
    ) -> None:
        """Set up.

        Args:
            source: read in a thread of its own.
            stop: ends it; set when it ends by itself.
            overtaken: called for each frame that nobody took before the next one came.
        """
        self._source, self._stop, self._overtaken = source, stop, overtaken
        self.left_behind = False
        """Whether the reading thread did not end."""

    def frames(self) -> Generator[Frame, None, None]:
        """The newest frame whenever one is asked for; what the reader raises is raised here.

        Raises:
            SkyreidError: the reader hangs.
        """
        slot = Slot()
        reader = threading.Thread(target=self._read, args=(slot,), name="reader", daemon=True)
        reader.start()
        leave_at: float | None = None
        try:
            while not slot.over:
                frame = slot.take(_STEP_S)
                if frame is not None:
                    yield frame
                elif self._stop.is_set():
                    leave_at = leave_at or time.monotonic() + LEAVE_S
                    if time.monotonic() > leave_at:
                        return
                elif (silent_s := self._source.silent_s()) > SILENT_S:
                    raise SkyreidError(
                        f"the source has hung inside GStreamer for {silent_s:.0f} s; the process "
                        "has to be started anew"
                    )
        finally:
            slot.close()
            self._stop.set()
            leave_at = leave_at or time.monotonic() + LEAVE_S
            reader.join(max(leave_at - time.monotonic(), 0.0))
            self.left_behind = reader.is_alive()
            slot.empty()

    def _read(self, slot: Slot) -> None:
        try:
            for frame in self._source.frames(self._stop):
                if slot.put(frame):
                    self._overtaken()
        except BaseException as error:  # raised again where the frames are taken
            slot.close(error)
        slot.close()


class Slot:
    """One frame between two threads: the newest wins."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False
        self._error: BaseException | None = None

    def put(self, frame: Frame) -> bool:
        """True when a frame that nobody took was replaced."""
        with self._change:
            if self._closed:
                old: Frame | None = frame
            else:
                old, self._frame = self._frame, frame
            self._change.notify()
        if old is not None:
            old.release()
        return old is not None

    @property
    def over(self) -> bool:
        """Whether there will be no frame; raises what the reader raised."""
        with self._change:
            if self._frame is None and self._closed and self._error is not None:
                raise self._error
            return self._frame is None and self._closed

    def take(self, timeout_s: float) -> Frame | None:
        """Wait a little for a frame; None when there is none yet, or will be none."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def close(self, error: BaseException | None = None) -> None:
        """No further frame. One that waits can still be taken."""
        with self._change:
            self._closed = True
            self._error = self._error or error
            self._change.notify()

    def empty(self) -> None:
        """Give back a frame that nobody will take."""
        with self._change:
            frame, self._frame = self._frame, None
        if frame is not None:
            frame.release()
