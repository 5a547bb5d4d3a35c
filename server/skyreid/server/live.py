"""Live events for whoever listens on ``/v1/events`` (Server-Sent Events, WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

PING_S = 15.0


class Listener:
    """One open stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, room: int) -> None:
        self.loop = loop
        self.queue: asyncio.Queue[str | None] = asyncio.Queue(room + 1)  # one for the end mark
        self.room = room


class Hub:
    """Hands each event to every listener; one that falls behind is cut off and counted.

    ``send`` may be called from any thread and never waits.
    """

    def __init__(self, room: int) -> None:
        """``room`` events are held for a listener before it is cut off."""
        self._room = room
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._closed = False
        self.dropped = 0
        """Listeners cut off so far."""

    def __len__(self) -> int:
        return len(self._listeners)

    def send(self, name: str, data: Mapping[str, Any]) -> None:
        """Send one event."""
        text = f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            _call(listener.loop, self._put, listener, text)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        for listener in listeners:
            _call(listener.loop, self._end, listener)

    def join(self) -> Listener:
        """Start listening; call from the event loop, before the first ``await``."""
        listener = Listener(asyncio.get_running_loop(), self._room)
        with self._lock:
            self._listeners.add(listener)
            if self._closed:
                self._end(listener)
        return listener

    async def stream(self, listener: Listener, ping_s: float = PING_S) -> AsyncIterator[str]:
        """The text of a stream: events as they come, a comment line where none does."""
        try:
            yield ": skyreid\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(listener.queue.get(), ping_s)
                except asyncio.TimeoutError:  # not yet the builtin on Python 3.10
                    yield ": still here\n\n"
                    continue
                if text is None:
                    return
                yield text
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _put(self, listener: Listener, text: str) -> None:
        with self._lock:
            if listener not in self._listeners:
                return
            if listener.queue.qsize() < listener.room:
                listener.queue.put_nowait(text)
                return
            self._listeners.discard(listener)
            self.dropped += 1
        self._end(listener)

    def _end(self, listener: Listener) -> None:
        if listener.queue.qsize() <= listener.room:
            listener.queue.put_nowait(None)


def _call(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop has ended, and its listeners with it
        return
