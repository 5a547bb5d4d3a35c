"""An `end` that an `update` follows, as somebody is found again, is replaced like any revision."""

from typing import Any

import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Ground, Kind, Pause, Sighting
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


def by_turns(make: Any, other: tuple[float, float]) -> list[Sighting]:
    """Of one person, seen from 0 to 5 and from 9 to 14 s, and of the same looks meanwhile."""
    base_ns = make.start_ns

    def at(seq: int, track: int, revision: int, begin_s: float, at_s: float, **more: Any) -> Any:
        first_ns = base_ns + round(begin_s * 1e9)
        here = Ground(0.5 * at_s, 2.0, 0.1, 0.0, 0.1)
        which = {"track": track, "revision": revision, "first_seen_ns": first_ns, "ground": here}
        return make.sighting(seq, **which, at_s=at_s, **more)

    hidden = (Pause(base_ns + 5 * 10**9, base_ns + 9 * 10**9),)
    begin_s, end_s = other
    return [
        at(1, 7, 1, 0, 4.9, kind=Kind.END),
        at(2, 8, 1, begin_s, end_s, kind=Kind.END),
        at(3, 7, 2, 0, 9.5, kind=Kind.UPDATE, pauses=hidden),
        at(4, 7, 3, 0, 14, kind=Kind.END, pauses=hidden),
    ]


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("other", "people"), [((5.5, 8.5), 1), ((5.5, 9.5), 2)])
def test_who_was_followed_as_two_by_turns_is_one_and_who_was_seen_beside_is_another(
    life: Any, make: Any, killed: bool, other: tuple[float, float], people: int
) -> None:
    """Both are in one camera and look alike; what goes on spans the one in between."""
    one = life()
    said = by_turns(make, other)
    one.arrive(make.payload(said[:3]))
    one.step_until(lambda: one.writer.stored == 3 and one.writer.settled)
    if killed:
        one = life()
        one.step_until(lambda: one.writer.settled and one.writer._matcher.held())
        paused = [t.sighting.pauses for t in one.writer._matcher.held() if t.key.track == 7]
        assert paused == [said[2].pauses]
    one.arrive(make.payload(said[3:]))
    later = make.sighting(1, camera="cam6", person=5, at_s=400, first_seen_ns=make.start_ns)
    one.arrive(make.payload([later], device="street"), device="street")  # decided for good
    one.step_until(lambda: one.writer.stored == 5 and one.writer.settled)
    mine = [key for key in one.writer.state.tracks if key.camera == KEY.camera]
    named = [(one.writer.state.tracks[key], key.track) for key in mine]
    cards = [[track for name, track in named if name == each] for each, _ in named]
    assert sorted({tuple(sorted(c)) for c in cards}) == ([(7, 8)] if people == 1 else [(7,), (8,)])
