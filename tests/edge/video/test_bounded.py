"""Symptoms of a GStreamer that does not come back from a call."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cameras import RtspServer, Watch

from skyreid.contract.errors import SkyreidError
from skyreid.edge.video.bounded import LEFT_MAX, Bounded
from skyreid.edge.video.source import Limits


def test_a_call_that_comes_back_late_is_left_until_then() -> None:
    bounded, let_go = Bounded(threading.Event()), threading.Event()
    assert bounded.call(lambda: None, 60)
    assert not bounded.call(let_go.wait, 0.05)
    assert (bounded.left, bounded.left_ever) == (1, 1)
    let_go.set()
    while bounded.left:
        pass
    assert bounded.left_ever == 1


def test_at_the_end_nobody_waits_for_a_call() -> None:
    stop, let_go = threading.Event(), threading.Event()
    stop.set()
    assert not Bounded(stop).call(let_go.wait, 600)
    let_go.set()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Tear-downs that hang until the event is set; each is left after a moment."""
    let_go, call = threading.Event(), Bounded.call

    def hang(self: Bounded, function: Callable[[], object], limit_s: float) -> bool:
        if function.__name__ != "down":
            return call(self, function, limit_s)

        def late() -> Any:
            let_go.wait()
            return function()

        return call(self, late, 0.05)

    monkeypatch.setattr(Bounded, "call", hang)
    yield let_go
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "gstreamer":
            thread.join(60)


def test_pipelines_that_do_not_come_down_are_counted_and_after_three_the_process_is_to_end(
    hanging: threading.Event, rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("short"), limits=Limits(backoff_s=(0.05, 0.05)))
    wait_until(lambda: watch.error is not None)
    watch.close()
    assert isinstance(watch.error, SkyreidError)
    assert watch.error.exit_code == 1
    assert "3 pipelines hang inside GStreamer" in str(watch.error)
    assert watch.source.lost["hung"] == LEFT_MAX == 3


def test_a_camera_that_ends_again_and_again_is_connected_anew_and_leaves_nothing(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    """The short form of ``bench/reconnects.py``."""
    threads = threading.active_count()
    watch = Watch(rtsp.url("short"), limits=Limits(backoff_s=(0.02, 0.02)))
    wait_until(lambda: watch.source.lost["ended"] >= 5)
    watch.close()
    assert watch.source.lost["hung"] == 0
    assert threading.active_count() == threads
