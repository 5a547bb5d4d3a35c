"""Who was seen at once by one camera is two people; who took turns may be one."""

from itertools import combinations

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import MAX_PAUSES, Ground, Pause, pauses_between
from skyreid.server.matching.clustering import ALIKE, NEAR, candidates
from skyreid.server.matching.likelihood import PLACE, WALK_MPS, fullest
from skyreid.server.matching.odds import Scores
from skyreid.server.matching.tracklets import Window, begin, revised

TOLERANCE_S = 0.3


@pytest.fixture
def put(make):
    """Put a tracklet, seen in stretches of seconds, into a window; its row."""

    def into(window, track, *stretches, camera="cam1", **changes):
        base_ns = make.start_ns
        seen = [(base_ns + round(a * 1e9), base_ns + round(b * 1e9)) for a, b in stretches]
        key = TrackKey("d", "1-a", camera, track)
        first_ns, last_ns = seen[0][0], seen[-1][1]
        told = make.sighting(
            track, camera=camera, first_seen_ns=first_ns, captured_at_ns=last_ns,
            pauses=pauses_between(seen), **changes,
        )  # fmt: skip
        return window.put(begin(key, "m", told))

    return into


def pair(window, a, b):
    """Whether a pair of rows is two people for certain, whichever comes first."""
    one, two = np.array([a, b]), np.array([b, a])
    found = window.at_once(one, two)
    assert found.tolist() == window.between(one, two).forbidden.tolist()
    assert found[0] == found[1]
    return bool(found[0])


def test_two_who_take_turns_may_be_one_and_two_who_are_seen_at_once_are_not(put):
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    first = put(window, 1, (0, 5), (9, 14))
    in_between = put(window, 2, (5.5, 8.5))
    beside = put(window, 3, (5.5, 9.5))
    through = put(window, 4, (0, 14))
    elsewhere = put(window, 5, (0, 14), camera="cam6")
    assert not pair(window, first, in_between)
    assert pair(window, first, beside)
    assert pair(window, first, through)
    assert pair(window, in_between, through)
    assert not pair(window, first, elsewhere)
    assert not pair(window, first, first)


def test_a_newer_word_replaces_the_pauses_and_a_row_that_is_used_again_has_none(put, make):
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    other = put(window, 2, (5.5, 8.5))
    row = put(window, 1, (0, 14))
    assert pair(window, row, other)
    assert put(window, 1, (0, 5), (9, 14)) == row
    assert not pair(window, row, other)
    window.drop(TrackKey("d", "1-a", "cam1", 1))
    assert put(window, 3, (0, 14)) == row
    assert pair(window, row, other)
    assert put(window, 4, (5, 6), (8, 9)) != row  # who pauses beside one that had paused
    assert pair(window, row, window.rows[TrackKey("d", "1-a", "cam1", 4)])


@pytest.mark.parametrize("seed", range(30))
def test_how_long_two_were_both_seen_is_what_counting_tenths_of_seconds_says(seed, put):
    rng = np.random.default_rng(seed)
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    seen: list[set[int]] = []
    for track in range(12):
        turns = rng.integers(1, rng.choice([4, 40]), 2 * rng.integers(1, MAX_PAUSES + 2))
        edges = np.cumsum([rng.integers(0, 50), *turns[1:]]).tolist()
        parts = list(zip(edges[::2], edges[1::2], strict=True))
        seen.append({tick for a, b in parts for tick in range(a, b)})
        put(window, track, *((a / 10, b / 10) for a, b in parts))
    barred = set()
    for one, two in combinations(range(len(seen)), 2):
        rows = [window.rows[TrackKey("d", "1-a", "cam1", k)] for k in (one, two)]
        barred.add(pair(window, *rows))
        assert pair(window, *rows) == (len(seen[one] & seen[two]) > 10 * TOLERANCE_S)
    assert True in barred
    every = window.taken()
    most = max(sum(tick in each for each in seen) for tick in set().union(*seen))
    assert fullest(*window.stretches(every)) >= most
    alone = [fullest(*window.stretches(every[k : k + 1])) for k in range(len(every))]
    assert set(alone) == {1}


def test_who_is_hidden_while_another_is_seen_is_not_counted_as_two_at_once(put):
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    rows = [put(window, 1, (0, 5), (9, 14)), put(window, 2, (5.5, 8.5))]
    assert fullest(*window.stretches(np.array(rows))) == 1
    rows.append(put(window, 3, (4, 10)))
    assert fullest(*window.stretches(np.array(rows))) == 2


def test_one_person_by_turns_is_among_the_most_alike_and_in_no_sample_of_strangers(put):
    """Both were: who looked most alike of all was barred, and held against the looks of all."""
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    first = put(window, 1, (0, 5), (9, 14), person=1, ground=None)
    again = put(window, 2, (5.5, 8.5), person=1, ground=None)
    for track in range(3, ALIKE + NEAR + 20):
        put(window, track, (0, 14), person=track, ground=None)
    scores = Scores(window, {})
    scores.refresh({}, whole=True)
    (near,) = candidates(scores, np.array([first]), window.taken())
    assert again in near
    pairs = scores.between(np.array([first]), np.array([again]))
    (looks,) = scores.looks._curves.values()
    assert pairs.similarity[0] > 0.99
    assert looks.strangers.max() < 0.95
    assert looks.share(pairs.similarity)[0] == 0.0


def test_where_somebody_was_while_nobody_saw_them_is_a_guess(make):
    """They walked round a corner, and another camera saw them there: not on the way between."""

    def path(track, corners, camera, pauses=()):
        key, out = TrackKey("d", "1-a", camera, track), None
        for revision, (at_s, east, north) in enumerate(corners):
            at_ns = make.start_ns + round(at_s * 1e9)
            here = tuple(p for p in pauses if p.end_ns <= at_ns)
            said = make.sighting(
                track, camera=camera, revision=revision, captured_at_ns=at_ns, pauses=here,
                ground=Ground(east, north, 0.05, 0.0, 0.05),
            )  # fmt: skip
            out = begin(key, "m", said) if out is None else revised(out, "m", said)
        return out

    start = make.start_ns
    hidden = (Pause(start + 2 * 10**9, start + 8 * 10**9),)
    corners = [(0.0, 0.0, 0.0), (2.0, 2.0, 0.0), (8.0, 5.0, 3.0), (10.0, 5.0, 5.0)]
    walked = [*corners[:2], (5.0, 5.0, 0.0), *corners[2:]]
    window = Window(overlap_tolerance_s=TOLERANCE_S)
    whole = window.put(path(1, walked, "cam6"))
    guess = window.put(path(2, corners, "cam1", hidden))
    sure = window.put(path(3, corners, "cam3"))
    tables = window.between(np.array([whole, whole]), np.array([guess, sure]))
    assert tables.kind.tolist() == [PLACE, PLACE]
    assert tables.llr[0] > tables.llr[1]
    at = window.facts["at"][guess] - window.facts["start"][guess]
    start_point = window.facts["start"][guess]
    variance = window._pool[at + start_point : at + window.facts["end"][guess], 2]
    seen = np.r_[0:9, 32:41]
    np.testing.assert_allclose(variance[seen], 0.05, atol=1e-9)
    assert variance.argmax() == 20
    assert variance[20] == pytest.approx(0.05 + (3 * WALK_MPS) ** 2 / 2, rel=1e-3)
