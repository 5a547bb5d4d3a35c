"""An `end` that an `update` follows, as somebody is found again, is replaced like any revision."""

from typing import Any

import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Ground, Kind, Sighting
from skyreid.server.web.answers import Lookup, ShownSite

KEY = TrackKey("uav1", "1-abcd", "cam1", 7)


def said(make: Any, revision: int, at_s: float, kind: Kind) -> Sighting:
    """A statement about one track; the person is as many metres east as it has the revision."""
    here = Ground(float(revision), 2.0, 0.1, 0.0, 0.1)
    found: Sighting = make.sighting(
        revision, track=KEY.track, revision=revision, kind=kind, at_s=at_s, ground=here
    )
    return found


def shown(one: Any) -> list[Any]:
    """All tracklets of all cards of the page."""
    lookup = Lookup(one.journal.path, ShownSite("never", {}))
    answer = lookup.identities(one.writer.state, limit=10)
    return [each for card in answer["identities"] for each in card["tracklets"]]


def told(one: Any) -> list[str]:
    return [event["type"].rsplit(".", 1)[-1] for event in one.events()]


def test_the_tracklet_goes_on_and_is_in_one_identity_once(life: Any, make: Any) -> None:
    one = life()
    course = [(1, 1, Kind.NEW), (2, 3, Kind.END), (3, 7, Kind.UPDATE), (4, 9, Kind.END)]
    for revision, at_s, kind in course:
        one.arrive(make.payload([said(make, revision, at_s, kind)]))
        one.step_until(lambda: one.writer.settled)
        (tracklet,) = shown(one)
        assert tracklet["ended"] == (kind is Kind.END)
        assert tracklet["revision"] == revision
        assert tracklet["last_seen_ns"] == make.start_ns + at_s * 10**9
        assert tracklet["ground"]["east_m"] == revision
        (held,) = one.writer._matcher.held()
        assert held.last_ns == tracklet["last_seen_ns"]
        assert held.path[:, 1].tolist() == list(range(1, revision + 1))
    assert told(one) == ["assigned"]
    assert len(one.writer.gallery) == 1


def test_an_end_that_comes_after_what_followed_it_changes_nothing(life: Any, make: Any) -> None:
    one = life()
    for revision, at_s, kind in [(1, 1, Kind.NEW), (3, 7, Kind.UPDATE), (2, 3, Kind.END)]:
        one.arrive(make.payload([said(make, revision, at_s, kind)]))
        one.step_until(lambda: one.writer.settled)
    (tracklet,) = shown(one)
    assert (tracklet["revision"], tracklet["ended"]) == (3, False)
    assert tracklet["last_seen_ns"] == make.start_ns + 7 * 10**9


@pytest.mark.parametrize("killed", [False, True])
def test_also_where_its_end_was_decided_for_good_minutes_ago(
    life: Any, make: Any, killed: bool
) -> None:
    """The others went on while its device had no network; the server ended in between, or not."""
    one = life()
    one.arrive(make.payload([said(make, 1, 50, Kind.NEW), said(make, 2, 58, Kind.END)]))
    other = make.sighting(1, camera="cam6", person=5, at_s=400, first_seen_ns=make.start_ns)
    one.arrive(make.payload([other], device="street"), device="street")
    one.step_until(lambda: one.writer.settled and len(one.writer.state.tracks) == 2)
    before = dict(one.writer.state.tracks)
    if killed:
        one = life()
    one.arrive(make.payload([said(make, 3, 62, Kind.UPDATE), said(make, 4, 66, Kind.END)]))
    one.step_until(lambda: one.writer.stored == 5 and one.writer.settled)
    assert dict(one.writer.state.tracks) == before
    mine = [each for each in shown(one) if each["camera"] == KEY.camera]
    assert [(each["revision"], each["ended"]) for each in mine] == [(4, True)]
    assert mine[0]["last_seen_ns"] == make.start_ns + 66 * 10**9
