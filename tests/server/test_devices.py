"""Up to when everybody has spoken, and who is waited for."""

import pytest

from skyreid.contract.device import Birth, BirthCamera, Health
from skyreid.contract.sighting import ModelRef, View
from skyreid.server.devices import Devices
from skyreid.server.store.records import Heard

MODEL = ModelRef("key", 4, "", "m")
CAMERA = BirthCamera(id="cam6", view="ground")
BIRTH = Birth(boot="b", model=MODEL, cameras=(CAMERA,))


def devices(*known: Heard, cameras: tuple[str, ...] = ()) -> Devices:
    return Devices(known, cameras, stall_s=5, window_s=60, now_s=100.0)


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
    assert both.horizon_ns(105) == 0
    assert both.horizon_ns(106) == 60


def test_nobody_waits_for_a_device_whose_clock_is_far_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    three = devices()
    hour_ns = 3600 * 10**9
    three.hear(Heard("slow", 1, "b", hour_ns), 101)
    assert three.horizon_ns(101) == hour_ns
    three.hear(Heard("late", 1, "b", 4 * hour_ns - 59 * 10**9), 101)
    three.hear(Heard("good", 1, "b", 4 * hour_ns), 101)
    for _ in range(2):
        assert three.horizon_ns(102) == 4 * hour_ns - 59 * 10**9
    assert caplog.text.count("device slow is 10800 s behind the newest") == 1
    three.hear(Heard("new", 1, "b", 0), 102)  # it has not spoken yet
    assert three.horizon_ns(102) == 0


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
        "last_message_at_ns": 7,
    }
    assert one.model_keys() == {"key"}
    assert one.online() == 1
