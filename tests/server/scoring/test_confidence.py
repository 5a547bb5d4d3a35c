"""Whether statements are true: rates that can be counted by hand, and against naive loops."""

from collections.abc import Hashable

import numpy as np
import pytest

from skyreid.contract.identity_event import LinkState, Match, TrackKey
from skyreid.server.matching.identity import Decision
from skyreid.server.scoring.confidence import (
    Confidence,
    Link,
    calibration,
    confidence_of,
)
from skyreid.server.scoring.lineage import lineage_of


def key(camera: str, track: int) -> TrackKey:
    return TrackKey(f"dev-{camera}", "b1", camera, track)


A1, A2, A3 = (key("cam1", t) for t in (1, 2, 3))
G1, G2, G3 = (key("cam6", t) for t in (1, 2, 3))
VIEW = {A1: "aerial", A2: "aerial", A3: "aerial", G1: "ground", G2: "ground", G3: "ground"}


def match(probability: float, other: TrackKey, state: LinkState = "accepted") -> Match:
    return Match(state, probability, other, ())


def join(at: int, name: str, track: TrackKey, link: Match | None = None) -> Decision:
    return Decision("assign", at, name, (track,), match=link)


def both(log: list[Decision], person: dict[TrackKey, Hashable]) -> tuple[Confidence, Confidence]:
    """As told, and at the end."""
    said = lineage_of(log)
    told, held = (confidence_of(s, said.steps, person, VIEW) for s in (said.told, said.held))
    return told, held


def counted(found: Confidence) -> tuple[int, int, int, int]:
    rates = found.open_set
    return rates.first, rates.false, rates.again, rates.missed


def test_a_stranger_taken_for_somebody_counts_once_and_the_right_link_is_right():
    log = [
        join(1, "P", A1),
        join(2, "P", G1, match(0.95, A1)),  # the same person, from the other view
        join(3, "P", A2, match(0.6, A1)),  # somebody else
    ]
    for found in both(log, {A1: "ann", G1: "ann", A2: "bob"}):
        assert counted(found) == (2, 1, 1, 0)
        assert [(b.n, b.right) for b in found.whole.bins if b.n] == [(1, 0.0), (1, 1.0)]
        assert found.whole.ece == pytest.approx((0.6 + 0.05) / 2)
        assert [(b.low, b.n) for b in found.across.bins if b.n] == [(0.95, 1)]


def test_a_tentative_link_is_no_identification_but_is_stated():
    log = [
        join(1, "P", A1),
        join(2, "P", A2, match(0.8, A1, "tentative")),
        join(3, "P", G1, match(0.7, A1, "tentative")),
    ]
    for found in both(log, {A1: "ann", A2: "bob", G1: "ann"}):
        assert counted(found) == (2, 0, 1, 1)
        assert sum(b.n for b in found.whole.bins) == 2


def test_who_is_joined_through_a_doubtful_member_alone_is_not_found():
    log = [
        join(1, "P", A1),
        join(2, "P", G1, match(0.8, A1, "tentative")),
        join(3, "P", A2, match(0.95, A1)),
    ]
    told, _ = both(log, {A1: "bob", G1: "ann", A2: "ann"})

    assert counted(told) == (2, 0, 1, 1)  # only bob is surely there, and ann was seen


def test_what_a_merge_and_a_split_put_right_counts_at_the_end():
    log = [
        join(1, "P", A1),
        join(2, "Q", G1),
        join(3, "Q", G2, match(0.97, G1)),  # wrong, and split again below
        Decision("merge", 4, "P", other="Q", match=match(0.99, A1)),
        Decision("split", 5, "R", (G2,), other="P"),
    ]
    told, held = both(log, {A1: "ann", G1: "ann", G2: "bob"})

    assert counted(told) == (2, 1, 1, 1)
    assert counted(held) == (2, 0, 1, 0)
    assert sum(b.n for b in told.whole.bins) == 2
    assert [(b.n, b.right) for b in held.whole.bins if b.n] == [(1, 1.0)]


def test_a_box_that_is_nobodys_is_a_stranger_each_time():
    log = [join(1, "P", A1), join(2, "P", A2, match(0.99, A1)), join(3, "Q", A3)]
    for found in both(log, {A1: None, A2: None, A3: None}):
        assert counted(found) == (3, 1, 0, 0)
        assert found.open_set.fnir is None
        assert [b.right for b in found.whole.bins if b.n] == [0.0]  # two nobodies are not one


def test_tracklets_without_truth_and_erased_ones_are_passed_over():
    log = [
        join(1, "P", A1),
        join(2, "P", A2, match(0.9, A1)),
        join(3, "Q", G1),
        Decision("erase", 4, "Q"),
    ]
    told, held = both(log, {A1: "ann", G1: "bob"})

    assert counted(told) == (2, 0, 0, 0)
    assert counted(held) == (1, 0, 0, 0)
    assert told.whole.ece is None


def test_bins_and_error_agree_with_a_loop():
    rng = np.random.default_rng(5)
    stated = [0.0, 1.0, 0.999, 0.5, *rng.uniform(0, 1, 400).tolist()]
    links = [Link((A1,), p, bool(rng.random() < p**2), True, False) for p in stated]

    found = calibration(links)

    off = 0.0
    for b in found.bins:
        inside = [k for k in links if b.low <= k.stated and (k.stated < b.high or b.high == 1.0)]
        assert b.n == len(inside)
        assert b.right == pytest.approx(sum(k.right for k in inside) / b.n)
        off += abs(sum(k.stated for k in inside) - sum(k.right for k in inside))
    assert sum(b.n for b in found.bins) == len(links)
    assert found.ece == pytest.approx(off / len(links))
    assert found.ece is not None
    assert found.ece > 0.05
