"""The bench measures what it says it does; no number of a busy machine is asserted."""

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.site import Site
from skyreid.server.__main__ import main
from skyreid.server.bench import chain, events, match, start
from skyreid.server.bench.load import A_MESSAGE, SITE, batches
from skyreid.server.bench.world import World
from skyreid.server.broker.decoding import sort_messages


def test_what_needs_no_broker_is_measured_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--without-broker", "--messages", "20", "--tracklets", "200", "--active"]
    assert main(["bench", "--json", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    above = {"start_cpu_s", "bytes_per_tracklet"}  # an empty one: nothing, for so few
    assert set(found) == {"decode_only_per_cpu_s", "store_per_cpu_s", "similar_ratio"} | above
    assert all(value > 0 for name, value in found.items() if name not in above)
    assert found["store_per_cpu_s"] < found["decode_only_per_cpu_s"]
    monkeypatch.setattr(start, "start_cost", lambda folder, tracklets: (0.0, 0.0))
    assert main(["bench", *small]) == 0
    assert "sightings sorted and stored, a CPU second" in capsys.readouterr().out


def test_matching_is_measured_on_as_many_tracklets_as_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--messages", "20", "--tracklets", "200"]
    asked = ["--active", "50", "100", "--crowd", "20", "--seconds", "2", *few]
    assert main(["bench", "--json", "--without-broker", *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("match_cpu_ms", "match_no_place_cpu_ms"):
        assert set(found[name]) == {"50", "100"}
        assert all(value > 0 for value in found[name].values())
    for batch in found["match_batch_cpu_s"].values():
        assert batch["p50"] <= batch["p99"]
    assert found["match_mb"] > 0
    assert found["match_crowd_cpu_s"] > 0
    assert found["people_in_view"] == 2
    made = match.filled(World(100, placed=True))
    assert 90 <= len(made.state.tracks) <= 110


def test_the_load_is_what_a_server_takes() -> None:
    out = sort_messages(batches(5), Site(id=SITE))
    assert (len(out.sightings), out.refused) == (5 * A_MESSAGE, [])
    assert len({item.sighting.seq for item in out.sightings}) == 5 * A_MESSAGE


def test_the_broker_that_is_measured_or_written_is_the_one_that_is_shipped(
    repository: Path,
) -> None:
    def settings(text: str) -> dict[str, str]:
        lines = (line.strip() for line in text.splitlines())
        return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))

    shipped = settings((repository / "docker" / "mosquitto.conf").read_text())
    measured = settings(chain.BROKER)
    for name in ("listener", "persistence_location", "user"):  # of this machine
        measured.pop(name)
    del shipped["listener"]
    assert measured == shipped


def test_a_server_behind_a_broker_is_measured(tmp_path: Path) -> None:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed")
    with chain.Chain(tmp_path) as one:
        assert chain.ingest_per_cpu_s(one, 30) > 0
        assert one.stored == 30 * A_MESSAGE


def test_a_lost_event_is_seen_and_waits_are_counted_from_publishing_and_from_the_horizon() -> None:
    end_ns = 10**18
    early, late = (TrackKey(f"device-{n}", "1-bench", "cam0", 1) for n in range(2))
    published = events.Published(
        new=[(early, end_ns - 3 * 10**8, 9.7), (late, end_ns - 10**8, 9.9)],
        marks={
            "device-0": ([end_ns - 10**8, end_ns], [9.9, 10.0]),
            "device-1": ([end_ns - 10**8, end_ns + 2 * 10**8], [9.9, 10.2]),
        },
    )
    whole, after = events.waits_s(published, {early: 10.5, late: 10.5}, 9.0, 11.0)
    assert whole == pytest.approx([0.8, 0.6])
    assert after == pytest.approx([0.3, 0.3])
    with pytest.raises(InputError, match="no event of 1 of 2 tracklets"):
        events.waits_s(published, {late: 10.5}, 9.8, 11.0)


def test_a_listener_hears_when_it_is_told_first_who_somebody_is() -> None:
    ear = events.Ear()
    track = {"device": "d", "boot": "1-b", "camera": "c", "track": 7}

    def lines(kind: str) -> list[bytes]:
        data = json.dumps({"type": kind, "tracks": [track]}).encode()
        return [b"id: 1-0\n", b"event: identity\n", b"data: " + data + b"\n", b"\n"]

    ear.listen([*lines("split"), b"event: devices\n", b"data: {}\n"])
    assert ear.heard_s == {}
    ear.listen(lines("tentative"))
    (first,) = ear.heard_s.values()
    ear.listen(lines("assigned"))
    assert ear.heard_s == {TrackKey("d", "1-b", "c", 7): first}


def test_more_people_come_where_more_are_asked_for() -> None:
    def told(times: float) -> int:
        world = World(600, placed=True)
        return sum(map(len, islice(world.live(60, lambda _: times), 20, 60)))

    usual: Any = told(1.0)
    assert told(3.0) == pytest.approx(3 * usual, rel=0.25)
    assert World(10_000, placed=True).cameras == {
        f"cam{n}": ("aerial", "ground")[n % 2] for n in range(10)
    }
