"""A queue of one frame between the thread that reads and the one that looks: newest wins."""

from __future__ import annotations

import threading

from skyreid.edge.video.frame import Frame


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

    def take(self) -> Frame | None:
        """Wait for a frame; None when there will be none; raises what the reader raised."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._closed)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
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
