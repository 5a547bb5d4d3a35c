"""Matching that fails on a sighting: it alone is set aside, now and in the next life."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from one_life import Life

from skyreid.server.__main__ import main
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.odds import Scores
from skyreid.server.store.quarantine import culprit
from skyreid.server.web.health import summary

POISON = 666


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Matching fails on a window with any of these tracks in it."""
    tracks = [POISON]
    refresh = Scores.refresh

    def fail(self: Scores, owner: Mapping[int, str | None], *, whole: bool = False) -> None:
        bad = [t.key.track for t in self.window.tracklets() if t.key.track in tracks]
        if bad:
            raise OverflowError(f"cannot convert float infinity to integer: {bad}")
        refresh(self, owner, whole=whole)

    monkeypatch.setattr(Scores, "refresh", fail)
    return tracks


def send(one: Life, make: Any, tracks: Sequence[int]) -> None:
    sightings = [make.sighting(n, track=n, person=n, at_s=1 + n % 7) for n in tracks]
    one.arrive(make.payload(sightings))


def held(one: Life) -> list[int]:
    rows = one.journal._db.execute("SELECT seq FROM quarantine WHERE state = 'held' ORDER BY seq")
    return [seq for (seq,) in rows]


def test_a_sighting_that_matching_fails_on_is_set_aside_and_the_others_are_decided(
    life: Callable[..., Life], make: Any, poisoned: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    one = life()
    send(one, make, [1, 2, 3, POISON, 4, 5])
    one.step_until(lambda: one.writer.settled)
    assert held(one) == [POISON]
    assert len(one.writer.state.tracks) == 5
    assert summary(one.writer)["quarantined"] == 1
    (reason,) = summary(one.writer)["degraded"]
    assert reason.startswith("matching: it failed on 1 sightings")
    assert "skyreid_quarantined_sightings 1.0" in one.metrics.text()[0].decode()
    assert "OverflowError: cannot convert float infinity" in caplog.text
    assert ("ack", 1) in one.broker.did  # it is stored, and its device has its receipt
    send(one, make, [6, 7])
    one.step_until(lambda: one.writer.settled and len(one.writer.state.tracks) == 7)


def test_the_next_life_passes_over_what_is_in_quarantine(
    life: Callable[..., Life], make: Any, poisoned: list[int]
) -> None:
    first = life()
    send(first, make, [1, POISON, 2])
    first.step_until(lambda: first.writer.settled)
    second = life()
    send(second, make, [3])
    second.step_until(lambda: second.writer.settled)
    assert len(second.writer.state.tracks) == 3
    assert held(second) == [POISON]


def test_a_journal_that_ended_every_life_is_started_from(
    life: Callable[..., Life], make: Any, poisoned: list[int]
) -> None:
    """It was stored by a release that crashed on it."""
    poisoned.clear()
    first = life(stall_s=3600)
    first.writer.devices.horizon_ns = lambda now_s: 0
    send(first, make, [1, POISON, 2])
    first.writer.step(1)
    assert first.writer.undecided == 3
    poisoned.append(POISON)
    second = life()
    second.step_until(lambda: second.writer.settled)
    assert (held(second), len(second.writer.state.tracks)) == ([POISON], 2)


def test_many_that_fail_are_found_and_no_others_are_decided_twice(
    life: Callable[..., Life], make: Any, poisoned: list[int]
) -> None:
    poisoned += [601, 602, 603]
    one = life()
    send(one, make, [1, 601, 2, 602, 3])
    send(one, make, [603, 4, POISON])
    one.step_until(lambda: one.writer.settled)
    assert held(one) == [601, 602, 603, POISON]
    tracks = [t.track for d in one.journal.decisions() if d.kind == "assign" for t in d.tracks]
    assert sorted(tracks) == [1, 2, 3, 4]


def test_a_failure_that_does_not_come_again_costs_no_sighting(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, failures = Matcher.advance, [ZeroDivisionError("once")]

    def once(self: Matcher, horizon_ns: int | None, *tell: Any) -> Any:
        if failures:
            raise failures.pop()
        return advance(self, horizon_ns, *tell)

    monkeypatch.setattr(Matcher, "advance", once)
    one = life()
    send(one, make, [1, 2])
    one.step_until(lambda: one.writer.settled)
    assert (held(one), len(one.writer.state.tracks)) == ([], 2)


def test_matching_that_fails_on_nothing_ends_the_server(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Matcher, horizon_ns: int | None, *tell: Any) -> Any:
        raise ZeroDivisionError("always")

    monkeypatch.setattr(Matcher, "advance", never)
    one = life()
    send(one, make, [1])
    with pytest.raises(ZeroDivisionError):
        one.step_until(lambda: one.writer.settled)
    assert held(one) == []


def test_an_operator_lists_shows_retries_and_drops(
    life: Callable[..., Life],
    make: Any,
    poisoned: list[int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "server.toml").write_text(
        'site = "site.toml"\n[journal]\npath = "journal.sqlite"\n'
    )
    settings = str(tmp_path / "server.toml")
    poisoned.append(667)
    one = life()
    send(one, make, [1, POISON, 667])
    one.step_until(lambda: one.writer.settled)
    assert main(["quarantine", "list", settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["uav1", "1-abcd", str(n), "held"] for n in (POISON, 667)
    ] or sorted(line.split()[2] for line in lines) == [str(POISON), "667"]
    assert main(["quarantine", "show", settings, "uav1", "1-abcd", str(POISON)]) == 0
    assert "Traceback (most recent call last)" in capsys.readouterr().out
    assert main(["quarantine", "show", settings, "uav1", "1-abcd", "1"]) == 2
    assert "is not in quarantine" in capsys.readouterr().err

    assert main(["quarantine", "drop", settings, "uav1", "1-abcd", "667"]) == 0
    one.writer.step(0.001)
    assert summary(one.writer)["quarantined"] == 1
    poisoned.clear()  # a release that mends it
    assert main(["quarantine", "retry", settings, "--all"]) == 0
    one.step_until(lambda: one.writer.settled and len(one.writer.state.tracks) == 2)
    assert summary(one.writer)["quarantined"] == 0
    assert summary(one.writer)["degraded"] == []
    second = life()
    second.step_until(lambda: second.writer.settled)
    assert len(second.writer.state.tracks) == 2  # the dropped one is stored and stays unmatched
    for what, *key in (["retry"], ["drop", "uav1"], ["retry", "a", "b", "x"]):
        assert main(["quarantine", what, settings, *key]) == 2


def test_a_message_that_cannot_be_stored_spoils_no_other(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()
    store = one.journal.store

    def picky(sightings: Sequence[Any], *rest: Any) -> Any:
        if any(item.sighting.seq == POISON for item in sightings):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return store(sightings, *rest)

    monkeypatch.setattr(one.journal, "store", picky)
    for n in (1, 2, POISON, 3):
        send(one, make, [n])
    one.step_until(lambda: one.writer.settled)
    assert len(one.writer.state.tracks) == 3
    assert [d for d in one.broker.did if d[0] == "ack"] == [("ack", n) for n in (1, 2, 3, 4)]
    assert any(d[1] == "skyreid/v1/plaza/rejected/defect" for d in one.broker.did if d[1:])
    assert 'skyreid_rejected_total{reason="defect"} 1.0' in one.metrics.text()[0].decode()


@pytest.mark.parametrize("bad", [{0}, {6}, {3}, {2, 5}])
def test_the_culprit_is_the_last_of_the_shortest_prefix_that_fails(bad: set[int]) -> None:
    asked: list[int] = []

    def fails(some: Sequence[int]) -> bool:
        asked.append(len(some))
        return bad <= set(some)

    assert culprit(range(7), fails) == max(bad)
    assert len(asked) <= 3
