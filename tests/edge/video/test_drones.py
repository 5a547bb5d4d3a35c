"""Streams of drones, over real pipelines: killed, frozen, late, lossy, they cost gaps alone."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cameras import RtspServer
from drones import DroneWatch, Sender, write_stream

from skyreid.edge.video.kind import Login
from skyreid.edge.video.source import Limits, State

SECRET = "a passphrase nobody logs"
WAYS = {
    "udp": ("udp://127.0.0.1:{port}", "udpsink host=127.0.0.1 port={port}"),
    "group": (
        "udp://239.255.7.7:{port}?iface=lo",
        "udpsink host=239.255.7.7 port={port} multicast-iface=lo",
    ),
    "srt": (
        "srt://127.0.0.1:{port}",
        'srtsink uri="srt://127.0.0.1:{port}?mode=listener" wait-for-connection=false',
    ),
    "srt that is called": ("srt://:{port}", 'srtsink uri="srt://127.0.0.1:{port}"'),
}
QUICK = Limits(connect_s=4.0, stall_s=2.0, backoff_s=(0.1, 0.3))


@pytest.fixture(scope="module")
def clip(needs_gst: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(tmp_path_factory.mktemp("drone"))


@pytest.fixture
def sender(
    clip: Path, environment: dict[str, str], needs_gst: None
) -> Iterator[Callable[..., tuple[str, Sender]]]:
    """Makes one of a way, not started, and says the address that the device has."""
    from skyreid.edge.video.platform import load_gst

    gst, _, _ = load_gst()
    made: list[Sender] = []

    def make(
        way: str, *, loss: float = 0.0, more: str = "", clip: Path = clip
    ) -> tuple[str, Sender]:
        if "srt" in way and not gst.ElementFactory.find("srtsrc"):
            pytest.skip("GStreamer has no SRT here")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url, sink = (text.format(port=port) for text in WAYS[way])
        made.append(Sender(clip, sink + more, environment, loss=loss))
        return url, made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.mark.parametrize("way", WAYS)
def test_a_drone_s_stream_comes_with_its_telemetry_in_time(
    way: str, sender: Callable[..., tuple[str, Sender]], wait_until: Callable[..., None]
) -> None:
    url, drone = sender(way)
    watch = DroneWatch(url, limits=QUICK)
    drone.start()
    wait_until(lambda: watch.placed)
    watch.close()
    assert watch.error is None
    assert watch.torn == []


def test_h265_comes_with_its_telemetry_too(
    needs_gst: None,
    tmp_path: Path,
    sender: Callable[..., tuple[str, Sender]],
    wait_until: Callable[..., None],
) -> None:
    url, drone = sender("udp", clip=write_stream(tmp_path, "libx265"))
    watch = DroneWatch(url, limits=QUICK)
    drone.start()
    wait_until(lambda: watch.placed)
    watch.close()
    assert watch.error is None
    assert watch.torn == []


@pytest.mark.parametrize("way", ["udp", "srt"])
def test_a_stream_that_is_late_frozen_and_killed_costs_gaps_and_nothing_else(
    way: str, sender: Callable[..., tuple[str, Sender]], wait_until: Callable[..., None]
) -> None:
    url, drone = sender(way)
    watch = DroneWatch(url, limits=Limits(connect_s=0.5, stall_s=2.0, backoff_s=(0.1, 0.3)))

    def comes(more: int = 3) -> None:
        before = len(watch.frames)
        wait_until(lambda: len(watch.frames) >= before + more)

    wait_until(lambda: sum(watch.source.lost.values()) >= 2)  # nobody is there yet
    watch.source._limits = QUICK
    drone.start()
    comes()
    drone.signal(signal.SIGSTOP)
    wait_until(lambda: watch.source.lost["stalled"] >= 1)
    drone.signal(signal.SIGCONT)
    comes()
    drone.kill()
    lost = sum(watch.source.lost.values())
    wait_until(lambda: sum(watch.source.lost.values()) > lost)
    drone.start()
    comes()
    wait_until(lambda: watch.placed)
    watch.close()
    assert watch.error is None
    assert watch.torn == []
    assert set(watch.source.lost) <= {"silent", "unreachable", "stalled", "ended", "error"}
    assert State.REFUSED not in [state for state, _ in watch.states]
    times = [frame.captured_at_ns for frame in watch.frames]
    assert times == sorted(set(times))
    assert [frame.number for frame in watch.frames] == sorted({f.number for f in watch.frames})


@pytest.mark.parametrize("way", ["udp", "srt"])
def test_a_stream_that_loses_one_packet_of_a_hundred_costs_gaps_and_nothing_else(
    way: str, sender: Callable[..., tuple[str, Sender]], wait_until: Callable[..., None]
) -> None:
    url, drone = sender(way, loss=0.01)
    watch = DroneWatch(url, limits=QUICK)
    drone.start()
    wait_until(lambda: watch.source.dropped["frame_damaged"] >= 3 and len(watch.frames) > 30)
    wait_until(lambda: watch.placed)
    watch.close()
    assert watch.error is None
    assert watch.torn == []
    assert State.REFUSED not in [state for state, _ in watch.states]


def test_a_passphrase_opens_an_srt_stream_and_a_wrong_one_is_tried_rarely_and_never_shown(
    sender: Callable[..., tuple[str, Sender]], wait_until: Callable[..., None]
) -> None:
    url, drone = sender("srt", more=f' passphrase="{SECRET}"')
    drone.start()
    right = DroneWatch(url, limits=QUICK, login=Login("", SECRET))
    wait_until(lambda: len(right.frames) >= 2)
    right.close()
    for login in (Login("", SECRET + "!"), None):
        wrong = DroneWatch(url, limits=QUICK, login=login)
        wait_until(lambda watch=wrong: watch.source.state is State.REFUSED)
        wrong.close()
        assert wrong.frames == []
        assert wrong.source.lost["unauthorized"] == 1
        (why,) = wrong.said(State.REFUSED)
        assert "see camera.password" in why
        assert SECRET not in repr(wrong.states)


def test_an_rtsp_camera_with_telemetry_beside_its_video_says_where_it_is(
    clip: Path,
    needs_rtsp: None,
    environment: dict[str, str],
    free_port: int,
    wait_until: Callable[..., None],
) -> None:
    server = RtspServer(free_port, environment, "--klv", str(clip.with_suffix("")))
    server.start()
    try:
        watch = DroneWatch(server.url("klv"), limits=QUICK)
        wait_until(lambda: watch.placed)
        watch.close()
    finally:
        server.kill()
    assert watch.error is None
    assert watch.torn == []


def test_a_port_that_another_has_is_said_and_tried_rarely(
    needs_gst: None, wait_until: Callable[..., None]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        watch = DroneWatch(f"udp://127.0.0.1:{other.getsockname()[1]}", limits=QUICK)
        wait_until(lambda: watch.source.state is not State.CONNECTING)
        watch.close()
    assert "cannot be listened at" in watch.said(State.REFUSED)[0]
