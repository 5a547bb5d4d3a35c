"""Up to when everybody has spoken, and who is waited for."""

import pytest

from skyreid.contract.device import Birth, BirthCamera, Health
from skyreid.contract.sighting import ModelRef, View
from skyreid.server.device import AHEAD_MESSAGES
from skyreid.server.devices import Devices
from skyreid.server.store.records import Heard

MODEL = ModelRef("key", 4, "", "m")
CAMERA = BirthCamera(id="cam6", view="ground")
BIRTH = Birth(boot="b", model=MODEL, cameras=(CAMERA,))


HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


def devices(*known: Heard, cameras: tuple[str, ...] = ()) -> Devices:
    return Devices(known, cameras, stall_s=5, now_s=100.0)


def live(all_of_them: Devices, name: str, at_s: float, lag_s: float) -> None:
    """A live message of ``name`` at second ``at_s``, captured ``lag_s`` before."""
    arrived_ns = DAY_NS + round(at_s * 1e9)
    all_of_them.hear(Heard(name, arrived_ns, "b", arrived_ns - round(lag_s * 1e9)), at_s)


def horizon_s(all_of_them: Devices, at_s: float) -> float:
    """How far the horizon is behind now."""
    horizon_ns = all_of_them.horizon_ns(at_s)
    assert horizon_ns is not None
    return round(at_s - (horizon_ns - DAY_NS) / 1e9, 3)


def test_the_slowest_device_sets_the_horizon() -> None:
    both = devices()
    both.hear(Heard("a", 1, "b", 50), 101)
    both.hear(Heard("b", 1, "b", 30), 101)
    assert both.horizon_ns(102) == 30
    both.hear(Heard("b", 1, "b", 20), 102)  # a repeat does not turn time back
    assert both.horizon_ns(102) == 30


def test_a_device_that_left_or_fell_silent_holds_nobody_up() -> None:
    both = devices()
    both.status("a", True, 101)
    both.hear(Heard("a", 1, "b", 50), 101)
    both.hear(Heard("b", 1, "b", 30), 103)
    both.status("b", False, 104)
    assert both.horizon_ns(104) == 50
    assert both.horizon_ns(105.9) == 50
    assert both.horizon_ns(106) is None
    both.hear(Heard("a", 1, "b", 60), 107)
    assert both.horizon_ns(107) == 60


def test_a_device_that_lives_and_sees_nothing_new_holds_nobody_up() -> None:
    both = devices()
    both.hear(Heard("a", 1, "b", 50), 101)
    for second in range(101, 108):
        both.hear(Heard("blind", 1, "b", 0), second)
    both.hear(Heard("a", 1, "b", 60), 105)
    assert both.horizon_ns(105) == 60


def test_one_device_twenty_seconds_behind_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = devices()
    for second in range(101, 140):
        live(site, "slow", second, 20)
        for name in "abc":
            live(site, name, second, 0.5)
        assert horizon_s(site, second) == 0.5
    assert site.wait.to_json() == {"device": None, "by_s": 0.0, "late": ["slow"]}
    assert site.by_id["slow"].to_json()["late"] is True
    assert site.by_id["slow"].to_json()["lag_s"] == 20.0
    assert caplog.text.count("device slow comes 20.0 s after capture, the limit is 2.5 s") == 1
    for second in range(140, 180):
        for name in ("slow", *"abc"):
            live(site, name, second, 0.5)
        site.horizon_ns(second)
    assert site.wait.late == ()


def test_a_device_of_two_that_is_behind_holds_the_other_up_no_longer_than_a_while() -> None:
    two = devices()
    for second in range(101, 110):
        live(two, "slow", second, 20)
        live(two, "good", second, 0.5)
        assert horizon_s(two, second) == 0.5


def test_a_device_of_two_whose_clock_is_ahead_does_not_make_the_other_late() -> None:
    """Within what is tolerated: the site went on without the right one, out of its order."""
    two = devices()
    for second in range(101, 110):
        live(two, "ahead", second, -55)
        live(two, "good", second, 0.5)
        assert horizon_s(two, second) == 0.5
        assert two.wait.to_json() == {"device": None, "by_s": 0.0, "late": []}
    two.status("good", False, 110)
    assert horizon_s(two, 110) == -54.0  # alone it goes by itself: what it said at 109 + 55
    server_behind = devices()
    for second in range(101, 110):
        for name, lag_s in (("a", -5), ("b", -4.8), ("slow", 15)):
            live(server_behind, name, second, lag_s)
        shown = second >= 100 + AHEAD_MESSAGES
        assert horizon_s(server_behind, second) == (-4.8 if shown else -1)
    assert server_behind.wait.late == ("slow",)


def test_a_device_whose_watermark_creeps_holds_nobody_up() -> None:
    two = devices()
    for second in range(101, 140):
        creep = Heard("creep", DAY_NS + second * 10**9, "b", DAY_NS + 101 * 10**9 + second)
        two.hear(creep, second)
        live(two, "good", second, 0.5)
        assert horizon_s(two, second) <= 0.5 + 2
    assert two.wait.late == ("creep",)


def test_a_device_that_gets_slower_is_waited_for_up_to_the_limit_and_named() -> None:
    site = devices()
    for second in range(101, 120):
        for name in "abc":
            live(site, name, second, 0.5)
    live(site, "a", 121.5, 0.5)
    live(site, "b", 121.5, 0.5)  # and c, which was at 118.5, says nothing
    assert horizon_s(site, 121.5) == 0.5 + 2  # not 3
    assert (site.wait.device, site.wait.by_s) == ("c", 2.0)
    live(site, "a", 124.5, 0.5)
    live(site, "b", 124.5, 0.5)
    assert horizon_s(site, 124.5) == 0.5  # stalled: nobody waits for it at all
    assert site.wait.device is None


def test_a_device_that_only_says_that_it_is_online_holds_nobody_up() -> None:
    site = devices(Heard("flap", DAY_NS - HOUR_NS, "b", DAY_NS - HOUR_NS, "cam9", 1, "key"))
    for second in range(106, 146):
        if second % 4 == 0:
            site.status("flap", True, second)
        for name in "ab":
            live(site, name, second, 0.5)
        assert horizon_s(site, second) == 0.5


def test_a_device_in_a_boot_loop_holds_nobody_up() -> None:
    site = devices()
    for second in range(101, 141):
        if second % 4 == 0:
            site.hear(Heard("loop", DAY_NS, f"boot-{second}", 0), second)
        for name in "ab":
            live(site, name, second, 0.5)
        assert horizon_s(site, second) == 0.5


def test_a_device_whose_clock_jumped_ahead_and_back_counts_again_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = devices()
    live(site, "a", 101, 0.5)
    live(site, "a", 102, -3600)  # this server's clock was ahead too, or it had been refused
    live(site, "a", 103, 0.5)
    assert horizon_s(site, 103) == 0.5
    assert site.by_id["a"].lag_s == 0.5
    assert "device a went back by 3600 s: its clock was set" in caplog.text
    live(site, "a", 104, 10)  # a repeated message does not turn time back
    assert horizon_s(site, 104) == 1.5


def test_what_a_restarted_broker_had_kept_for_minutes_turns_no_time_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """ "Its clock was set", of each device after each restart, and the site's time went back."""
    site = devices()
    for second in range(301, 310):
        for name in "abc":
            live(site, name, second, 0.5)
    for age_s in range(250, 1, -1):
        for name in "abc":
            live(site, name, 310, age_s)
            assert horizon_s(site, 310) == 1.5
    assert (site.wait.late, caplog.text) == ((), "")
    for second in range(311, 370):  # a clock that is behind from now on
        live(site, "a", second, 250)
        live(site, "b", second, 0.5)
        live(site, "c", second, 0.5)
        assert horizon_s(site, second) <= 2.5
    assert site.by_id["a"].lag_s == 250


def test_one_heartbeat_a_device_that_is_ahead_does_not_make_everybody_late() -> None:
    """A forged one, or a clock before it was set: for a minute 45 of 50 sightings were late."""
    site = devices()
    for name in "abc":
        live(site, name, 101, -59)
    assert horizon_s(site, 101) == -1  # and not a minute
    for at_s in (102, 103, 104):
        for name in "abc":
            live(site, name, at_s, 0.2)
        assert horizon_s(site, at_s) == 0.2


def test_a_clock_that_is_put_right_is_progress_from_its_first_message_on() -> None:
    """Nobody seemed to speak, and the first of each device was decided alone."""
    hour_ahead = Heard("a", DAY_NS + HOUR_NS, "b", DAY_NS + HOUR_NS, "cam1", 1, "key")
    site = devices(hour_ahead)
    assert site.horizon_ns(110) is None  # silent for longer than it is waited for
    live(site, "a", 110, 0.5)
    assert horizon_s(site, 110) == 0.5


def test_clocks_that_were_all_ahead_and_are_put_right_count_again_at_once() -> None:
    site = devices()
    for second in range(101, 130):
        for name in "abc":
            live(site, name, second, -58)
    assert horizon_s(site, 129) == -58  # they may be right, and this server's behind
    for name in "abc":
        live(site, name, 130, 0.2)
    assert horizon_s(site, 130) == 0.2


def test_nobody_at_all_is_nobody_to_wait_for() -> None:
    assert devices(cameras=("cam1",)).horizon_ns(100) is None


def test_a_camera_of_the_site_is_waited_for_a_while_after_the_first_one_spoke() -> None:
    one = devices(cameras=("cam1", "cam6"))
    one.hear(Heard("a", 1, "b", 50, "cam1"), 200)
    assert one.horizon_ns(204) == 0
    one.hear(Heard("a", 1, "b", 60, "cam1"), 205)
    assert one.horizon_ns(205) == 60


def test_the_wait_ends_when_every_camera_is_spoken_for() -> None:
    two = devices(cameras=("cam1", "cam6"))
    two.hear(Heard("a", 1, "b", 50, "cam1"), 200)
    two.birth("c", BIRTH, 200)
    two.hear(Heard("c", 1, "b", 40), 200)
    assert two.horizon_ns(200) == 40


def test_devices_of_earlier_days_hold_after_a_restart_until_they_stall() -> None:
    old = devices(Heard("a", 1, "b", 50, "cam1", 1, "key"))
    assert old.horizon_ns(104) == 50
    assert old.horizon_ns(105) is None


def test_a_birth_says_camera_view_and_model_before_the_first_sighting() -> None:
    one = devices()
    one.birth("a", BIRTH, 100)
    (got,) = [d.to_json() for d in one.by_id.values()]
    assert (got["camera"], got["view"], got["model_key"]) == ("cam6", "ground", "key")
    assert got["birth"]["cameras"] == [{"id": "cam6", "view": "ground", "modality": "unknown"}]


def test_a_new_boot_starts_its_watermark_anew() -> None:
    one = devices(Heard("a", 1, "b", 50))
    one.hear(Heard("a", 1, "c", 10), 101)
    assert one.horizon_ns(101) == 10


def test_a_device_is_shown_with_what_it_said() -> None:
    one = devices()
    one.hear(Heard("a", 7, "b", 50, "cam1", int(View.GROUND), "key"), 101)
    one.health("a", Health(fps=9), 101)
    one.birth("a", BIRTH, 101)
    one.birth("a", None, 101)  # withdrawn: what is known of it stays
    one.status("a", True, 101)
    (got,) = [d.to_json() for d in one.by_id.values()]
    assert got == {
        "device": "a",
        "camera": "cam6",
        "view": "ground",
        "status": "online",
        "model_key": "key",
        "birth": {},
        "health": {"schema_version": 1, "dropped": {}, "fps": 9.0, "lost_connections": {}},
        "watermark_ns": 50,
        "lag_s": 0.0,
        "late": False,
        "alarms": {},
        "last_message_at_ns": 7,
    }
    assert one.model_keys() == {"key"}
    assert one.online() == 1
