"""When an autopilot was started, by what comes over links that are late and uneven."""

import os
import pty
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from autopilot import EARTH, Autopilot
from flights import START_NS, frame_at, model_at

from skyreid.contract.errors import SettingsError
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.boot_clock import BootClock
from skyreid.edge.telemetry.mavlink_feed import MavlinkFeed
from skyreid.edge.telemetry.mavlink_link import SerialLink, UdpLink
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.synth.telemetry import ORIGIN

common = pytest.importorskip("pymavlink.dialects.v20.common", reason="needs pymavlink")
MS = 1_000_000


def asked_over_a_link(
    clock: BootClock, boot_ns: int, wait_ms: float, rng: np.random.Generator
) -> None:
    """Both ways take 300 ms and up to 120 more by chance."""
    for number in range(20):
        asked = clock.question(START_NS + number * 1_100 * MS)
        assert asked is not None
        there = asked + int(rng.uniform(300, 420) * MS)
        back = there + int(rng.uniform(300, 420) * MS) + int(rng.uniform(0, wait_ms) * MS)
        clock.answered(asked, there - boot_ns, back)


@pytest.mark.parametrize(
    ("wait_ms", "off_ms"),
    [(0.0, 20), (60.0, 30)],
    ids=["the kernel says when", "read with the next frame"],
)
def test_the_start_is_known_over_a_link_that_is_300_ms_late_and_uneven(
    wait_ms: float, off_ms: float
) -> None:
    off = []
    for seed in range(50):
        clock, boot_ns = BootClock(), START_NS - 90_000 * MS
        asked_over_a_link(clock, boot_ns, wait_ms, np.random.default_rng(seed))
        off.append(abs(clock.start_ns - boot_ns) / MS)
    assert np.percentile(off, 95) < off_ms


def test_an_answer_is_believed_before_the_autopilots_own_utc_and_its_absence_is_not() -> None:
    clock, boot_ns = BootClock(), START_NS
    clock.arrived(0, boot_ns + 300 * MS)
    assert clock.start_ns == boot_ns + 300 * MS  # the link's lag is left in it
    clock.said(boot_ns + 5_000 * MS, 0)  # an autopilot whose UTC is five seconds wrong
    assert clock.start_ns == boot_ns + 5_000 * MS
    asked = clock.question(START_NS)
    assert asked is not None
    clock.answered(asked, 10 * MS, START_NS + 20 * MS)
    assert abs(clock.start_ns - boot_ns) <= 10 * MS


def test_answers_to_what_was_not_asked_and_answers_of_another_life_say_nothing() -> None:
    clock = BootClock()
    clock.answered(START_NS, 5 * MS, START_NS + 9 * MS)
    assert clock.start_ns == 0
    asked = clock.question(START_NS)
    assert asked is not None
    clock.answered(asked, 5 * MS, START_NS + 9 * MS)
    clock.answered(asked, 500 * MS, START_NS + 9 * MS)  # twice
    assert abs(clock.start_ns - START_NS) < 10 * MS
    later = clock.question(START_NS + 60_000 * MS)  # started anew half a minute ago
    assert later is not None
    clock.answered(later, 30_000 * MS, later + 8 * MS)
    assert abs(clock.start_ns - START_NS - 30_000 * MS) < 10 * MS


class Answers(threading.Thread):
    """An autopilot that says where it is and answers TIMESYNC; no UTC of its own, real time."""

    def __init__(
        self,
        drone: Autopilot,
        boot_ns: int,
        send: Callable[[bytes], object],
        receive: Callable[[], bytes],
    ) -> None:
        super().__init__(daemon=True)
        self._drone, self._boot_ns = drone, boot_ns
        self._send, self._receive = send, receive
        self.over = threading.Event()
        self.asked = 0

    def run(self) -> None:
        parser = common.MAVLink(None)
        parser.robust_parsing = True
        packer = common.MAVLink(None, srcSystem=1, srcComponent=1)
        due = 0.0
        while not self.over.wait(0.002):
            for message in parser.parse_buffer(self._receive()) or ():
                if message.get_type() == "TIMESYNC" and message.tc1 == 0:
                    self.asked += 1
                    since = time.time_ns() - self._boot_ns
                    answer = packer.timesync_encode(since, message.ts1)
                    self._send(answer.pack(packer))
            if time.monotonic() >= due:
                due = time.monotonic() + 0.05
                now_s = (time.time_ns() - START_NS) / 1e9
                data = self._drone.position(now_s) + self._drone.gimbal(now_s)
                self._send(data)


def placed_in_real_time(feed: MavlinkFeed, thread: Answers) -> float:
    """Metres off, median over the second of two seconds."""
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    thread.start()
    began, off = time.monotonic(), []
    try:
        while time.monotonic() - began < 2.5:
            time.sleep(0.04)
            now_s = (time.time_ns() - START_NS) / 1e9
            pose = poses.at(frame_at(now_s))
            if time.monotonic() - began > 1.0:
                assert pose is not None, poses.fault
                off.append(
                    float(np.linalg.norm((pose.model.position - model_at(now_s).position)[:2]))
                )
    finally:
        thread.over.set()
        thread.join()
        feed.close()
    return float(np.median(off))


def place_what_answers(
    feed: MavlinkFeed, send: Callable[[bytes], object], receive: Callable[[], bytes]
) -> None:
    """An autopilot that has been on for 100 s, at the other end of a link: asked, and placed."""
    boot_ns = time.time_ns() - 100_000 * MS
    thread = Answers(Autopilot(ORIGIN, flags=EARTH, boot_ns=boot_ns), boot_ns, send, receive)
    assert placed_in_real_time(feed, thread) < 0.15
    assert thread.asked >= 2


def test_over_udp_an_autopilot_without_utc_is_asked_and_its_drone_is_where_it_is() -> None:
    link = UdpLink("127.0.0.1", 0)
    options = TelemetryOptions(source="udp://127.0.0.1:0", fov_deg=55)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as drone:
        drone.setblocking(False)

        def receive() -> bytes:
            try:
                return drone.recv(4096)
            except BlockingIOError:
                return b""

        feed = MavlinkFeed(link, ORIGIN, options)
        place_what_answers(feed, lambda data: drone.sendto(data, ("127.0.0.1", link.port)), receive)


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pty: the drone's end, and the path of ours."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    yield ours, os.ttyname(theirs)
    for end in (ours, theirs):
        os.close(end)


def test_over_a_serial_line_the_same(line: tuple[int, str]) -> None:
    end, path = line
    source = f"serial:{path}:57600"
    options = TelemetryOptions(source=source, fov_deg=55)
    assert options.line == (path, 57600)
    link = SerialLink(path, 57600)

    def receive() -> bytes:
        try:
            return os.read(end, 4096)
        except BlockingIOError:
            return b""

    feed = MavlinkFeed(link, ORIGIN, options)
    place_what_answers(feed, lambda data: os.write(end, data), receive)


def test_a_line_that_is_none_is_said(tmp_path: object) -> None:
    for path, baud, said in (
        ("/dev/not-here", 57600, "No such file"),
        ("/dev/null", 57600, "not a|ioctl"),
        ("/dev/null", 1234, "no speed of a line"),
    ):
        with pytest.raises(SettingsError, match=f"(?i)serial:{path}:{baud}: .*({said})"):
            SerialLink(path, baud)


def test_a_line_that_is_unplugged_is_no_end(line: tuple[int, str]) -> None:
    end, path = line
    link = SerialLink(path, 57600)
    os.write(end, b"abc")
    assert b"".join(data for _, data in link.read()) == b"abc"
    os.close(link._line)  # type: ignore[arg-type]  # as if it were gone
    assert link.read() == []
    link._tried_s = 0.0
    assert link.read() == []
    os.write(end, b"def")
    assert b"".join(data for _, data in link.read()) == b"def"
    link.close()
