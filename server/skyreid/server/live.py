"""Live events for whoever listens on ``/v1/events`` (Server-Sent Events, WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

PING_S = 15.0
NEWS_S = 2.0
"""What changes about devices within this time is told together."""


EventId = tuple[int, int]
"""Decision that caused an event, and the event's number among those; as text ``12-0``."""


def event_text(name: str, data: Mapping[str, Any], number: EventId | None = None) -> str:
    """One event as it stands in a stream."""
    head = "" if number is None else f"id: {number[0]}-{number[1]}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


class Listener:
    """One open stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, room: int) -> None:
        self.loop = loop
        self.queue: asyncio.Queue[str | None] = asyncio.Queue(room + 1)  # one for the end mark
        self.room = room


ReadLog = Callable[[EventId], Awaitable[Sequence[tuple[EventId, str]]]]
"""The next events of the log after one, as they stand in a stream."""


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
        self._counted = 0  # of them

    def __len__(self) -> int:
        return len(self._listeners)

    def send(self, name: str, data: Mapping[str, Any], number: EventId | None = None) -> None:
        """Send one event; ``number`` is its id where it is in the log."""
        text = event_text(name, data, number)
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            _call(listener.loop, self._put, listener, text)

    def count_dropped(self, count: Callable[[int], None]) -> None:
        """Give ``count`` how many were cut off since the last call."""
        since, self._counted = self.dropped - self._counted, self.dropped
        count(since)

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

    async def stream(self, listener: Listener, ping_s: float = PING_S) -> AsyncGenerator[str, None]:
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

    async def replay(self, after: EventId, read: ReadLog) -> AsyncGenerator[str, None]:
        """What the log has after an event, then what happens: each once, in its order.

        ``read`` gives the next events of the log after one, none where it has no more.
        """
        last, listener = after, None
        try:
            while True:
                page = await read(last)
                for event, text in page:
                    last = event
                    yield text
                if not page:
                    if listener is not None:
                        break
                    listener = self.join()  # and once more, for what came meanwhile
            async for text in self.stream(listener):
                head = text.partition("\n")[0].removeprefix("id: ").partition("-")
                if not text.startswith("id: ") or (int(head[0]), int(head[2])) > last:
                    yield text
        finally:
            if listener is not None:
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


class Shown(Protocol):
    """A device, or who holds the site up, as far as it is shown."""

    def to_json(self) -> dict[str, Any]:
        """What is shown of it."""


class DeviceNews:
    """What changed about devices, told every few seconds in one event, changed keys only."""

    def __init__(self, hub: Hub, every_s: float = NEWS_S) -> None:
        """``every_s`` lies between two events at least."""
        self._hub, self._every_s = hub, every_s
        self._noted: set[str] = set()
        self._told: dict[str, dict[str, Any]] = {}
        self._told_at_s = float("-inf")
        self._told_wait: dict[str, Any] = {"device": None, "late": []}
        self._told_wait_at_s = float("-inf")

    def note(self, device: str) -> None:
        """Something about it may have changed."""
        self._noted.add(device)

    def alarm(self, alarms: list[tuple[str, str]], count: Callable[[str], None]) -> None:
        """Tell what was noticed of devices, by name and kind, and ``count`` it; none is left."""
        for name, kind in alarms:
            count(kind)
            self._hub.send("alarm", {"device": name, "kind": kind})
            self.note(name)
        alarms.clear()

    def tell(self, now_s: float, devices: Mapping[str, Shown]) -> None:
        """Tell the listeners what changed, if it is time; ``now_s`` are monotonic seconds."""
        if not self._noted or now_s - self._told_at_s < self._every_s:
            return
        self._told_at_s = now_s
        noted, self._noted = sorted(self._noted), set()
        if not len(self._hub):  # who comes later asks for all of them first
            self._told.clear()
            return
        changed = []
        for name in noted:
            if name not in devices:
                continue
            now, before = devices[name].to_json(), self._told.get(name, {})
            news = {key: value for key, value in now.items() if before.get(key) != value}
            if news:
                changed.append({"device": name, **news})
            self._told[name] = now
        if changed:
            self._hub.send("devices", {"devices": changed})

    def tell_wait(self, now_s: float, wait: Shown) -> None:
        """Tell who holds the site up when that changes, not by how much."""
        said = wait.to_json()
        who = {"device": said["device"], "late": said["late"]}
        if who != self._told_wait and now_s - self._told_wait_at_s >= self._every_s:
            self._told_wait, self._told_wait_at_s = who, now_s
            self._hub.send("wait", said)


def _call(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop has ended, and its listeners with it
        return
