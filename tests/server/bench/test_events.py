"""A small server behind a broker is measured until its events have been told, and with a fleet."""

import shutil
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.server.bench import chain, events


def test_how_long_events_take_is_measured_and_a_server_that_gets_behind_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed")
    monkeypatch.setattr(events, "WARM_S", 1.0)
    monkeypatch.setattr(events, "LASTS_S", 2)
    found = events.measure(tmp_path, 600, 4.0)
    for name in ("event_s", "event_after_horizon_s"):
        assert 0 < found[name]["p50"] <= found[name]["p99"]
    assert found["event_after_horizon_s"]["p50"] < found["event_s"]["p50"]
    assert 0 < found["event_cores"] <= 1.1
    over = found["event_overload"]
    assert over["published_per_s"] > found["event_load_per_s"] > 0
    assert over["drained_s"] >= 0


def test_a_fleet_is_measured_with_a_page_that_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed")
    with chain.Chain(tmp_path) as one:
        assert chain.fleet_cores(one, 1.0) > 0
    (tmp_path / "again").mkdir()
    monkeypatch.setattr(chain.Chain, "told", lambda _: iter(()))  # cut off
    with chain.Chain(tmp_path / "again") as one, pytest.raises(InputError, match="cut off"):
        chain.fleet_cores(one, 1.0)
