import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyreid.contract.broker import Trouble
from skyreid.contract.device import Health, decode_health, encode_health
from skyreid.contract.errors import InputError, SkyreidError
from skyreid.contract.picture import Picture
from skyreid.contract.receipt import Range, Receipt, Status
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery.connection import PictureWanted, Received, Up
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.flow import Flow, FlowOptions, Stop
from skyreid.edge.sighter import Said
from skyreid.edge.video.frame import Frame

PIXELS = np.zeros((4, 4, 3), np.uint8)


class Frames:
    """``count`` frames; counts how many were given back."""

    def __init__(
        self, count: int, *, then: BaseException | None = None, pause_s: float = 0
    ) -> None:
        self.count, self.then, self.pause_s = count, then, pause_s
        self.dropped: dict[str, int] = {}
        self.released = 0
        self.made = 0

    def _release(self) -> None:
        self.released += 1

    def silent_s(self) -> float:
        return 0.0

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        for number in range(1, self.count + 1):
            if stop.is_set():
                return
            time.sleep(self.pause_s)
            self.made += 1
            plain = Frame.of_rgb(PIXELS, number=number, captured_at_ns=number * 100_000_000)
            yield replace(plain, release=self._release)
        if self.then is not None:
            raise self.then


class Stuck:
    """A source whose thread hangs inside a library, as GStreamer's did on a lock."""

    dropped: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, silent_s: float = 0.0) -> None:
        self.let_go = threading.Event()
        self._silent_s = silent_s

    def silent_s(self) -> float:
        return self._silent_s

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        self.let_go.wait()
        return
        yield


class Looks:
    """A row for each frame, one more at the end."""

    def __init__(self, row: Callable[[int], Row], pause_s: float = 0.0) -> None:
        self.row, self.pause_s = row, pause_s
        self.seen: list[int] = []
        self.seq = 0
        self.pictures: tuple[Picture, ...] = ()
        self.hook: Callable[[], object] = lambda: None

    def look(self, frame: Frame) -> Said:
        time.sleep(self.pause_s)
        self.hook()
        self.seen.append(frame.number)
        self.seq += 1
        return Said((self.row(self.seq),), self.pictures, frame.captured_at_ns, 1)

    def finish(self) -> Said:
        self.seq += 1
        return Said((self.row(self.seq),), (), 10**18)


class NoLink:
    """Takes everything; ``receipts`` answers at once."""

    def __init__(self) -> None:
        self.channels: list[str] = []
        self.unacknowledged_max = 10_000

    def room(self, channel: str, properties: Mapping[str, str] | None = None) -> int:
        return 1 << 20

    def hang_up(self, why: Trouble) -> None:
        raise AssertionError(why)

    complain = hang_up

    def send(
        self,
        channel: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> int:
        self.channels.append(channel)
        return len(self.channels)


class Bench:
    def __init__(self, spool: Spool, model: ModelRef, row: Callable[[int], Row]) -> None:
        self.spool, self.model = spool, model
        self.link = NoLink()
        self.looks = Looks(row)
        self.stop = Stop()
        self.reports: list[Health] = []

    def flow(self, frames: Frames | Stuck, **options: Any) -> Flow:
        outbox = Outbox(self.spool, site="square", device="dev1", model=self.model)
        chosen = FlowOptions(**{"drain_timeout_s": 0.0, "stop_timeout_s": 0.0, **options})
        return Flow(
            frames,
            self.looks,
            self.spool,
            outbox,
            self.model,
            chosen,
            send_health=self.reports.append,
        )


@pytest.fixture
def bench(tmp_path: Path, model: ModelRef, row: Callable[[int], Row]) -> Iterator[Bench]:
    before = threading.active_count()
    with Spool(tmp_path / "s.db") as spool:
        yield Bench(spool, model, row)
    assert threading.active_count() == before, "a thread was left behind"


def held(bench: Bench) -> list[int]:
    return [stored.seq for stored in bench.spool.after(0, 10_000)]


def test_of_a_file_every_frame_is_looked_at_and_everything_is_spooled(bench: Bench) -> None:
    frames = Frames(300)
    flow = bench.flow(frames)
    outcome = flow.run(bench.stop)
    assert bench.looks.seen == list(range(1, 301))
    assert frames.released == 300
    assert held(bench) == list(range(1, 302))
    assert (outcome.frames, outcome.sightings, outcome.remaining) == (300, 301, 301)
    assert flow.drops.all() == {}


def test_of_a_live_source_the_newest_frame_wins_and_the_others_are_counted(bench: Bench) -> None:
    frames = Frames(60, pause_s=0.001)
    bench.looks.pause_s = 0.02
    flow = bench.flow(frames, live=True)
    flow.run(bench.stop)
    seen = bench.looks.seen
    assert seen == sorted(set(seen))
    assert seen[-1] == 60  # the last one is never overtaken
    assert len(seen) < 60
    assert flow.left_out() == {"frame_overtaken": 60 - len(seen)}
    assert frames.released == 60


def test_fps_max_leaves_frames_out_evenly_and_counts_them(bench: Bench) -> None:
    flow = bench.flow(Frames(20), fps_max=5.0)  # the frames come at 10 a second
    flow.run(bench.stop)
    assert bench.looks.seen == list(range(1, 21, 2))
    assert flow.drops.all() == {"fps_max": 10}


def test_a_stop_ends_in_good_order_with_the_last_word_about_everybody(bench: Bench) -> None:
    bench.looks.hook = lambda: bench.stop.ask() if len(bench.looks.seen) == 4 else None
    outcome = bench.flow(Frames(10_000)).run(bench.stop)
    assert bench.looks.seen == [1, 2, 3, 4, 5]
    assert held(bench) == [1, 2, 3, 4, 5, 6]
    assert outcome.remaining == 6


def test_what_was_seen_before_a_video_turned_out_damaged_is_kept(bench: Bench) -> None:
    frames = Frames(3, then=InputError("video x cannot be read after 3 frames"))
    with pytest.raises(InputError, match="after 3 frames"):
        bench.flow(frames).run(bench.stop)
    assert held(bench) == [1, 2, 3, 4]


def test_a_live_source_that_cannot_go_on_ends_the_run_in_good_order(bench: Bench) -> None:
    frames = Frames(1, then=InputError("no such codec"))
    with pytest.raises(InputError, match="no such codec"):
        bench.flow(frames, live=True).run(bench.stop)
    assert held(bench) == [1, 2]


def test_a_spool_that_cannot_be_written_ends_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SkyreidError("spool s.db cannot be written: database or disk is full")

    monkeypatch.setattr(bench.spool, "append", full)
    with pytest.raises(SkyreidError, match="disk is full"):
        bench.flow(Frames(100_000)).run(bench.stop)


def test_the_end_waits_for_receipts_and_stops_waiting_when_they_are_there(bench: Bench) -> None:
    flow = bench.flow(Frames(5), drain_timeout_s=120.0)
    flow.notify(Up(bench.link))
    everything = Receipt(bench.spool.boot, (Range(1, 100, Status.STORED),))

    def answer() -> None:
        while bench.spool.count() < 6:
            time.sleep(0.02)
        flow.notify(Received(everything))

    thread = threading.Thread(target=answer)
    thread.start()
    outcome = flow.run(bench.stop)
    thread.join()
    assert outcome.remaining == 0
    assert outcome.seconds < 100


def test_a_second_stop_does_not_wait_for_receipts(bench: Bench) -> None:
    bench.looks.hook = bench.stop.ask
    flow = bench.flow(Frames(1), stop_timeout_s=600.0)
    threading.Timer(0.5, bench.stop.ask).start()
    assert flow.run(bench.stop).seconds < 300


def test_health_says_how_it_goes(bench: Bench) -> None:
    flow = bench.flow(Frames(30, pause_s=0.02), health_period_s=0.1)
    flow.notify(Up(bench.link))
    flow.run(bench.stop)
    last = bench.reports[-1]
    assert decode_health(encode_health(last)) == last
    assert (last.clock, last.clock_error_ms, last.people) == ("file", 0, 1)
    assert last.sightings is not None
    assert last.spool is not None
    assert 0 < last.spool.sightings <= last.sightings


@pytest.mark.parametrize("allowed", [True, False])
def test_a_picture_is_sent_on_request_only_where_the_site_allows_it(
    bench: Bench, allowed: bool
) -> None:
    bench.looks.pictures = (Picture(bench.spool.boot, "cam1", 7, 1, 5, b"jpeg"),)
    flow = bench.flow(Frames(3), pictures_allowed=allowed, drain_timeout_s=1.0)
    flow.notify(Up(bench.link))

    def ask() -> None:
        if len(bench.looks.seen) == 2:
            request = b'{"boot": "%s", "camera": "cam1", "track": 7}' % bench.spool.boot.encode()
            while bench.spool.stats().pictures == 0:
                time.sleep(0.02)
            flow.notify(PictureWanted(b"nonsense"))
            flow.notify(PictureWanted(request))

    bench.looks.hook = ask
    flow.run(bench.stop)
    assert ("picture" in bench.link.channels) is allowed
    reason = "picture_request_bad" if allowed else "picture_refused"
    assert flow.drops.all() == {reason: 1 if allowed else 2}


def test_a_reader_that_never_comes_back_does_not_keep_the_device_from_ending(
    bench: Bench,
) -> None:
    source = Stuck()
    flow = bench.flow(source, live=True)
    threading.Timer(0.2, bench.stop.ask).start()
    flow.run(bench.stop)
    assert flow.left_behind
    assert held(bench) == [1]  # the last word about everybody
    source.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join()


def test_a_reader_that_hangs_ends_the_run_with_1_for_its_supervisor(bench: Bench) -> None:
    source = Stuck(silent_s=1000.0)
    with pytest.raises(SkyreidError, match="hung inside GStreamer for 1000 s") as caught:
        bench.flow(source, live=True).run(bench.stop)
    assert caught.value.exit_code == 1
    source.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join()


def test_a_stop_in_the_final_drain_does_not_wait_for_the_drain(bench: Bench) -> None:
    bench.looks.hook = lambda: threading.Timer(0.5, bench.stop.ask).start()
    flow = bench.flow(Frames(1), drain_timeout_s=600.0, stop_timeout_s=0.1)
    assert flow.run(bench.stop).seconds < 300


def test_what_a_source_left_out_is_in_health_while_it_runs(bench: Bench) -> None:
    frames = Frames(30, pause_s=0.02)
    frames.dropped = {"frame_damaged": 3, "frame_overtaken": 0}
    flow = bench.flow(frames, health_period_s=0.1)
    assert flow.report().dropped == {"frame_damaged": 3}


def test_a_flood_of_picture_requests_is_one_line_and_does_not_wait(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Each was a line and a transaction: 3 MB of log in ten seconds, and a late SIGTERM."""
    flow = bench.flow(Frames(3), pictures_allowed=True)
    request = b'{"boot": "1-aa", "camera": "cam1", "track": 7}'
    for _ in range(20_000):
        flow.notify(PictureWanted(request))
    flow.run(bench.stop)
    counts = flow.drops.all()
    assert counts["picture_request_flood"] >= 20_000 - 64
    assert sum(counts.values()) == 20_000
    assert len(caplog.records) == len(counts) == 2


def test_sightings_are_said_once_they_are_on_disk(bench: Bench) -> None:
    said: list[int] = []

    def told(rows: Sequence[Row]) -> None:
        assert {row.seq for row in rows} <= set(held(bench))
        said.extend(row.seq for row in rows)

    flow = bench.flow(Frames(200))
    flow.on_stored = told
    flow.run(bench.stop)
    assert said == list(range(1, 202))


def test_what_a_full_disk_did_not_take_was_not_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bench.spool.append

    def full(rows: Sequence[Row], *more: Any) -> dict[str, int]:
        taken = append((), *more)
        return taken | ({"spool_unwritten": len(rows)} if rows else {})

    said: list[int] = []
    monkeypatch.setattr(bench.spool, "append", full)
    flow = bench.flow(Frames(20))
    flow.on_stored = lambda rows: said.extend(row.seq for row in rows)
    outcome = flow.run(bench.stop)
    assert said == []
    assert flow.drops.all() == {"spool_unwritten": 21}
    assert outcome.looked == 20  # watching went on
