import numpy as np
import pytest

from skyreid.contract.sighting import Clock
from skyreid.edge.video.clock import FileClock, LiveClock

MS = 1_000_000
NOW = 1_700_000_000_000 * MS


def test_a_file_is_stamped_with_its_start_and_the_presentation_time() -> None:
    clock = FileClock(NOW)
    stamps = [clock.stamp(pts * MS, None, 5) for pts in (0, 100, 200)]
    assert [s.captured_at_ns for s in stamps] == [NOW, NOW + 100 * MS, NOW + 200 * MS]
    assert {(s.clock, s.error_ms) for s in stamps} == {(Clock.FILE, 0)}


def test_capture_times_increase_even_where_a_file_repeats_a_time_stamp() -> None:
    clock = FileClock(NOW)
    times = [clock.stamp(pts * MS, None, 0).captured_at_ns for pts in (0, 100, 100, 50, 200)]
    assert times == sorted(set(times))


def test_before_the_first_report_the_time_of_arrival_counts_and_says_so() -> None:
    stamp = LiveClock().stamp(40 * MS, None, NOW)
    assert (stamp.captured_at_ns, stamp.clock) == (NOW, Clock.ARRIVAL)
    assert stamp.error_ms >= 50


def test_after_a_report_the_camera_says_when() -> None:
    clock = LiveClock()
    stamp = clock.stamp(40 * MS, NOW - 30 * MS, NOW)
    assert (stamp.captured_at_ns, stamp.clock) == (NOW - 30 * MS, Clock.RTCP)
    later = clock.stamp(140 * MS, None, NOW + 500 * MS)
    assert later.captured_at_ns == NOW + 70 * MS


def run(clock: LiveClock, offsets_ms: list[int]) -> list[int]:
    """Stamps minus media time, in ms, of one frame per report."""
    out = []
    for k, offset in enumerate(offsets_ms):
        pts = k * 1000 * MS
        stamp = clock.stamp(pts, NOW + pts + offset * MS, NOW + pts)
        out.append((stamp.captured_at_ns - NOW - pts) // MS)
    return out


def test_one_report_that_is_100_ms_off_hardly_moves_the_clock() -> None:
    shifts = run(LiveClock(), [0, 1, -1, 115, 0, 1, -115, 0])
    assert max(shifts) - min(shifts) <= 2


def test_a_big_step_is_believed_only_when_three_reports_say_so() -> None:
    assert run(LiveClock(), [0, 0, -400, 0, 0]) == [0, 0, 0, 0, 0]
    assert run(LiveClock(), [0, 0, -400, -401, -402, -402])[-2:] == [-401, -401]


def test_a_camera_whose_clock_is_an_hour_off_is_not_believed() -> None:
    clock = LiveClock()
    stamp = clock.stamp(0, NOW - 3_600_000 * MS, NOW)
    assert (stamp.captured_at_ns, stamp.clock, clock.refused) == (NOW, Clock.ARRIVAL, 1)


def test_a_new_connection_forgets_the_old_offsets() -> None:
    clock = LiveClock()
    clock.stamp(5000 * MS, NOW, NOW)
    clock.reconnected()
    stamp = clock.stamp(0, None, NOW + 9000 * MS)
    assert (stamp.captured_at_ns, stamp.clock) == (NOW + 9000 * MS, Clock.ARRIVAL)


def test_time_goes_on_slowly_until_it_is_right_when_the_camera_turns_out_to_be_behind() -> None:
    clock = LiveClock()
    last = clock.stamp(0, None, NOW)
    for frame in range(1, 21):  # at 10 a second; the camera is .7 s behind
        at_ns = frame * 100 * MS
        stamp = clock.stamp(at_ns, NOW + at_ns - 700 * MS, NOW + at_ns)
        right_ns = NOW + at_ns - 700 * MS
        assert stamp.captured_at_ns - last.captured_at_ns >= 50 * MS
        assert stamp.error_ms == 700 + (stamp.captured_at_ns - right_ns) // MS
        last = stamp
    assert (last.captured_at_ns, last.error_ms) == (right_ns, 700)


@pytest.mark.parametrize(
    "off_s", [-3600, -59, -30, -5, -1.5, -0.7, -0.05, 0.05, 0.3, 1, 5, 30, 59, 3600]
)
def test_no_frame_is_later_than_its_arrival_and_the_truth_lies_within_the_stated_error(
    off_s: float,
) -> None:
    """The frame is captured the moment it arrives; the camera's clock is off by ``off_s``."""
    clock = LiveClock()
    for k in range(100):
        at_ns = NOW + k * 100 * MS
        sender_ns = at_ns + int(off_s * 1e9) if k > 20 else None
        stamp = clock.stamp(k * 100 * MS, sender_ns, at_ns)
        assert stamp.captured_at_ns <= at_ns
        assert at_ns - stamp.captured_at_ns <= (stamp.error_ms + 1) * MS
    assert (stamp.clock is Clock.ARRIVAL) == (not -2 <= off_s <= 0.15)
    believed = clock.why == ""
    assert believed == (stamp.clock is Clock.RTCP)
    if not believed:
        way = "behind" if off_s < 0 else "ahead of"
        assert clock.why == f"the camera's clock is {abs(off_s):.1f} s {way} the arrival"


def test_a_camera_that_says_no_time_is_why_there_is_no_better_clock() -> None:
    clock = LiveClock()
    clock.stamp(0, None, NOW)
    assert clock.why == "the camera says no time"


def test_time_of_a_file_goes_on_at_half_its_pace_where_it_goes_back_a_little() -> None:
    clock = FileClock(NOW)
    media_ms = [0, 125, 250, 375, 250, 375, 500, 625, 750, 875, 1000]
    times = [(clock.stamp(m * MS, None, 0).captured_at_ns - NOW) / MS for m in media_ms]
    assert min(np.diff(times)) >= 62
    assert times[-1] == 1000


def test_time_of_a_file_begins_anew_where_another_is_joined_to_it() -> None:
    clock = FileClock(NOW)
    stamps = [clock.stamp(m * MS, None, 0) for m in (0, 100, 5000, 5100, 0, 100)]
    times = [(s.captured_at_ns - NOW) // MS for s in stamps]
    assert times == [0, 100, 5000, 5100, 5200, 5300]


@pytest.mark.parametrize("by_s", [1, 60, 3600])
def test_time_does_not_stand_still_when_this_machines_clock_is_set_back(by_s: int) -> None:
    """It was ahead: nobody seemed to move, and nothing was said, for as long as it had been."""
    clock = LiveClock()
    last = clock.stamp(0, None, NOW + by_s * 1000 * MS)
    for frame in range(1, 2 * by_s + 2):  # one a second
        right_ns = NOW + frame * 1000 * MS
        stamp = clock.stamp(frame * 1000 * MS, None, right_ns)
        assert stamp.captured_at_ns - last.captured_at_ns >= 499 * MS
        assert abs(stamp.captured_at_ns - right_ns) <= stamp.error_ms * MS
        last = stamp
    assert (last.captured_at_ns, last.error_ms) == (right_ns, 100)


def test_time_follows_at_once_when_this_machines_clock_is_set_forward() -> None:
    clock = LiveClock()
    clock.stamp(0, None, NOW)
    stamp = clock.stamp(40 * MS, None, NOW + 3_600_000 * MS)
    assert (stamp.captured_at_ns, stamp.error_ms) == (NOW + 3_600_000 * MS, 100)
