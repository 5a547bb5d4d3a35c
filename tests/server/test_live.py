"""Live events: to every listener, a slow one is cut off; what changed about devices, together."""

import asyncio
from typing import Any

import pytest

from skyreid.server.devices import Devices
from skyreid.server.live import DeviceNews, Hub, event_text
from skyreid.server.store.records import Heard


def test_events_reach_a_listener_and_a_slow_one_is_cut_off() -> None:
    async def listen() -> None:
        hub = Hub(3)
        listener, slow = hub.join(), hub.join()
        stream = hub.stream(listener, ping_s=30)
        assert await anext(stream) == ": skyreid\n\n"
        for number in range(5):
            hub.send("identity", {"type": "assigned", "identity": str(number)})
            if number == 0:
                text = await anext(stream)
                assert text == 'event: identity\ndata: {"type":"assigned","identity":"0"}\n\n'
            await asyncio.sleep(0)
            if number:
                assert f'"{number}"' in await anext(stream)
        assert hub.dropped == 1
        got = [text async for text in hub.stream(slow)]
        assert len(got) == 4  # the greeting and what was held; then the end
        hub.close()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert len(hub) == 0

    asyncio.run(listen())


def test_a_silent_stream_says_that_it_is_alive() -> None:
    async def listen() -> None:
        hub = Hub(3)
        stream = hub.stream(hub.join(), ping_s=0.001)
        await anext(stream)
        assert await anext(stream) == ": still here\n\n"
        await stream.aclose()
        assert len(hub) == 0
        hub.close()
        assert [text async for text in hub.stream(hub.join())] == [": skyreid\n\n"]

    asyncio.run(listen())


class TellingHub(Hub):
    """Remembers what it is told to send."""

    def __init__(self) -> None:
        super().__init__(9)
        self.listening = 0
        self.told: list[tuple[str, Any]] = []

    def __len__(self) -> int:
        return self.listening

    def send(self, name: str, data: Any, number: tuple[int, int] | None = None) -> None:
        self.told.append((name, data))


def test_what_changed_about_devices_is_told_in_one_event_and_only_that() -> None:
    devices = Devices([], [], stall_s=5, now_s=0)
    hub = TellingHub()
    news = DeviceNews(hub, every_s=2)

    def hear(name: str, at_s: int) -> None:
        devices.hear(Heard(name, at_s * 10**9), at_s)
        news.note(name)

    hear("a", 1)
    news.tell(1, devices.by_id)
    assert hub.told == []  # nobody listens, and who comes later asks first
    hub.listening = 1
    for name in ("a", "b"):
        hear(name, 2)
    news.tell(2.5, devices.by_id)
    assert hub.told == []  # too soon after the last
    news.tell(3, devices.by_id)
    ((event, data),) = hub.told
    assert event == "devices"
    assert [d["device"] for d in data["devices"]] == ["a", "b"]
    devices.status("a", False, 4)
    news.note("a")
    news.note("b")
    news.tell(6, devices.by_id)
    assert hub.told[1][1] == {"devices": [{"device": "a", "status": "offline"}]}
    news.note("b")
    news.tell(9, devices.by_id)
    assert len(hub.told) == 2  # nothing changed


def test_a_consumer_that_was_away_gets_each_event_once_and_then_those_that_happen() -> None:
    async def listen() -> None:
        hub = Hub(9)
        log = [((n, 0), event_text("identity", {"n": n}, (n, 0))) for n in range(1, 6)]
        asked: list[Any] = []

        async def read(after: Any) -> Any:
            asked.append(after)
            if len(asked) == 4:  # after it joined: one that it reads, and is told, too
                log.append(((6, 0), event_text("identity", {"n": 6}, (6, 0))))
                hub.send("identity", {"n": 6}, (6, 0))
            return [entry for entry in log if entry[0] > after][:2]

        stream = hub.replay((2, 0), read)
        got = [await anext(stream) for _ in range(4)]
        assert [text.partition("\n")[0] for text in got] == [f"id: {n}-0" for n in (3, 4, 5, 6)]
        assert await anext(stream) == ": skyreid\n\n"
        hub.send("devices", {})
        hub.send("identity", {"n": 7}, (7, 0))
        assert (await anext(stream)).startswith("event: devices")
        assert (await anext(stream)).startswith("id: 7-0")
        await stream.aclose()
        assert len(hub) == 0

    asyncio.run(listen())
