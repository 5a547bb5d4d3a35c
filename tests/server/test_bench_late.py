"""A recording told late, and one with a gap, are counted as what they are."""

import shutil
from pathlib import Path

import backfill
import matching
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.server.bench.load import MODEL
from skyreid.server.bench.world import LASTS_S, START_NS, World

HOUR_NS = 3_600 * 10**9


def test_a_recording_that_comes_two_hours_late_is_decided_while_others_speak(
    tmp_path: Path,
) -> None:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed")
    told = [row for now in World(200, placed=True).live(2 * LASTS_S) for row in now]
    rows = [(device, boot, MODEL, sighting) for device, boot, _, sighting in told]
    names = backfill.Delivery(tmp_path, rows).late(2.0)
    tracks = {TrackKey(device, boot, s.camera, s.track) for device, boot, _, s in rows}
    assert names.keys() == tracks
    person = {key: (key.track - 1) // 2 for key in tracks}
    view = {TrackKey(device, boot, s.camera, s.track): s.view for device, boot, _, s in rows}
    found = backfill.score(names, person, view)
    assert found["right"] >= 0.8 * found["possible"] > 2
    assert found["right"] >= 0.8 * found["pairs"]
    nobody = backfill.score({key: str(key) for key in tracks}, person, view)
    assert (nobody["pairs"], nobody["right"]) == (0, 0)


def test_after_a_gap_there_are_other_tracklets_of_the_same_people() -> None:
    told = [row for now in World(200, placed=True).live(2 * LASTS_S) for row in now]
    person = {TrackKey(d, b, s.camera, s.track): (s.track - 1) // 2 for d, b, _, s in told}
    cut, whose, later = matching.cut(told, person, 3_600.0)
    assert len(cut) == len(told)
    assert {key.boot for key in later} == {"1-bench-later"}
    for (device, boot, _, s), (_, _, _, before) in zip(cut, told, strict=True):
        key = TrackKey(device, boot, s.camera, s.track)
        gap_ns = HOUR_NS if key in later else 0
        assert s.captured_at_ns == before.captured_at_ns + gap_ns
        assert s.first_seen_ns <= s.captured_at_ns
        assert (s.first_seen_ns > START_NS + HOUR_NS) is (key in later)
        assert whose[key] == person[key._replace(boot="1-bench")]
    right = matching.across({key: str(p) for key, p in whose.items()}, whose, later)
    assert right["joined"] == right["right"] == right["possible"] > 2
    alone = matching.across({key: str(key) for key in whose}, whose, later)
    assert alone == {"possible": right["possible"], "joined": 0, "right": 0}
