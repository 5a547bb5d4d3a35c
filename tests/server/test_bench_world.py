"""The measure of the matcher: days whose numbers are known, and a small one from end to end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import world
import world_crops
import world_open
from world_crops import Embedded, Rendering
from world_score import idf1, pairs, returns, strangers, visits_of
from world_site import CAMERAS, GAPS_S, KNOWN_S, TEST_SEED, Day, day, modality_at
from world_told import START_NS, Truth, tell

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.contract.sighting import Kind, Modality, ModelRef, View
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.scoring.lineage import Lineage, Statement
from skyreid.server.scoring.metrics import TrackedBoxes, score_tracking
from skyreid.server.scoring.truth import CameraTruth

PEOPLE = 60
MODEL = ModelRef("0123456789abcdef", 64, "00" * 32, "made-up")


@pytest.fixture(scope="module")
def happened() -> Day:
    return day(TEST_SEED, PEOPLE)


@pytest.fixture(scope="module")
def embedded(happened: Day) -> Embedded:
    """Everybody looks like nobody else, and always nearly the same."""
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(PEOPLE + 1, MODEL.dim))
    vectors = {}
    for p in happened.passages:
        rows = looks[p.pid] + 0.2 * rng.normal(size=(2, MODEL.dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        vectors[p.pid, p.visit, p.camera] = rows.astype(np.float32)
    return Embedded(vectors, MODEL, "made-up")


@pytest.fixture(scope="module")
def truth(happened: Day, embedded: Embedded) -> dict[TrackKey, Truth]:
    return tell(happened, embedded, "exact", np.inf)[1]


def said(
    truth: dict[TrackKey, Truth], name: Callable[[Truth], str], tentative: bool = False
) -> Lineage:
    """A matcher that calls each tracklet so."""
    steps = {track: ((START_NS, name(one)),) for track, one in truth.items()}
    first = next(iter(truth))
    link = Match("tentative", 0.9, first, ())
    held = tuple(Statement((track,), link if tentative else None, ()) for track in truth)
    return Lineage(steps, (), held)


def counts(rows: list[dict[str, object]], word: str) -> dict[float, int]:
    """How many of each rate, over the cells of a table."""
    out: dict[float, int] = {}
    for row in rows:
        rate = row[word]
        if isinstance(rate, dict):
            out[rate["rate"]] = out.get(rate["rate"], 0) + int(str(row["n"]))
    return out


def test_a_day_is_the_same_again_and_people_come_back_after_they_left(happened: Day) -> None:
    again = day(TEST_SEED, PEOPLE)
    assert [(p.pid, p.visit, p.camera) for p in again.passages] == [
        (p.pid, p.visit, p.camera) for p in happened.passages
    ]
    ends = {p.pid: float(p.times_s[-1]) for p in happened.passages if p.visit == 0}
    gaps = [float(p.times_s[0]) - ends[p.pid] for p in happened.passages if p.visit == 1]
    assert min(gaps) > 0.9 * GAPS_S[0]
    known = [one for one in happened.people.values() if one.returns]
    assert 0.3 < len(known) / PEOPLE < 0.65
    late = {p.pid for p in happened.passages if p.visit == 0 and p.times_s[0] > KNOWN_S + 600}
    assert late.isdisjoint(one.pid for one in known)
    alike = [one for one in happened.people.values() if one.alike]
    assert len(alike) % 4 == 0
    assert sum(one.returns for one in alike) == len(alike) / 2


def test_the_bound_of_returns_finds_who_looks_like_nobody_else_and_no_first_comer(
    happened: Day, embedded: Embedded
) -> None:
    people = world_open.visits_of(happened, embedded, centre=True)
    known, back, first = people
    assert {*back.pid} <= {*known.pid}
    assert known.end_s.min() < KNOWN_S <= first.begin_s.min()
    assert {*first.pid}.isdisjoint(known.pid)
    cosines = [world_open.alike(these, known) for these in (back, first)]
    of = np.argmax(known.pid == back.pid[:, None], 1)
    assert (cosines[0].argmax(1) == of).all()
    for kind in ("cosine", "z-norm", "standing out"):
        for line in world_open.table(people, cosines, kind):
            assert line.count(" 1.000 (") == 3, line  # same view, across, look-alikes
            assert "wrong 0.000 (" in line
    told = world_open.judged(people, cosines, 0.2)
    assert told[0].mean() > 0.9
    assert not told[1].any()
    lines = world_open.table(people, cosines, "as judged", told)
    assert all("first comers 0.000 (" in line for line in lines)


def test_every_sighting_is_told_in_order_and_positions_are_as_far_off_as_they_say(
    happened: Day, embedded: Embedded
) -> None:
    told, truth = tell(happened, embedded, "gnss", np.inf)
    times = [row[3].captured_at_ns for row in told]
    assert times == sorted(times)
    ends = [row[3] for row in told if row[3].kind is Kind.END]
    assert len(ends) == len(truth)
    exact = {(r[3].camera, r[3].seq): r[3] for r in tell(happened, embedded, "exact", np.inf)[0]}
    off = [
        (abs(s.ground.east_m - exact[s.camera, s.seq].ground.east_m), s.view)
        for _, _, _, s in told
        if s.ground is not None
    ]
    assert max(metres for metres, view in off if view is View.GROUND) < 1e-3
    assert 0.5 < np.mean([metres for metres, view in off if view is View.AERIAL]) < 4
    blind, same = tell(happened, embedded, "none", np.inf)
    assert {row[3].ground for row in blind} == {None}
    assert same == truth


def test_a_perfect_matcher_links_every_return_and_no_stranger(
    happened: Day, truth: dict[TrackKey, Truth]
) -> None:
    perfect = said(truth, lambda one: f"P{one.pid}")
    visits = visits_of(truth, perfect)
    came_back = returns(visits, truth, happened)
    assert counts(came_back, "right").keys() == {1.0}
    assert sum(row["n"] for row in came_back) == sum(visit.number for visit in visits) > 10
    assert counts(strangers(visits, happened, 600.0), "linked").keys() == {0.0}
    assert idf1(truth, perfect) == 1.0
    assert idf1(truth, perfect, visits=True) < 1.0
    found = pairs(truth, perfect)
    assert (found["precision"], found["recall"], found["recall_within_visits"]) == (1.0, 1.0, 1.0)


def test_a_matcher_that_forgets_misses_every_return_and_a_doubtful_one_does_too(
    happened: Day, truth: dict[TrackKey, Truth]
) -> None:
    forgets = said(truth, lambda one: f"P{one.pid}.{one.visit}")
    doubts = said(truth, lambda one: f"P{one.pid}", tentative=True)
    for lineage in (forgets, doubts):
        rows = returns(visits_of(truth, lineage), truth, happened)
        assert counts(rows, "missed").keys() == {1.0}
    assert idf1(truth, forgets, visits=True) == 1.0
    assert idf1(truth, forgets) < 1.0
    assert pairs(truth, forgets)["recall_within_visits"] == 1.0
    assert pairs(truth, forgets)["recall"] < 1.0


def test_a_matcher_that_takes_everybody_for_one_links_strangers_and_returns_wrongly(
    happened: Day, truth: dict[TrackKey, Truth]
) -> None:
    one = said(truth, lambda _: "P")
    visits = visits_of(truth, one)
    late = [row for row in strangers(visits, happened, 600.0) if row["gallery"] != "filling"]
    assert counts(late, "linked").keys() == {1.0}
    right = counts(returns(visits, truth, happened), "right")
    assert sum(rate * n for rate, n in right.items()) < 0.2 * sum(right.values())


def test_idf1_is_that_of_boxes(truth: dict[TrackKey, Truth]) -> None:
    """A box a second of each tracklet, through TrackEval."""
    rng = np.random.default_rng(3)
    some = {k: one for k, one in truth.items() if one.pid <= 12 and one.visit == 0}
    shorter = {
        k: replace(one, end_s=one.begin_s + max(1, round(one.end_s - one.begin_s)))
        for k, one in some.items()
    }
    names = {track: f"I{rng.integers(6)}" for track in shorter}
    lineage = Lineage({track: ((START_NS, name),) for track, name in names.items()})
    cameras, frames = [], 0
    for number, (track, one) in enumerate(shorter.items()):  # each in a time of its own
        length = round(one.end_s - one.begin_s)
        frame = np.arange(1, length + 1)
        frames = max(frames, length)
        box = np.tile([10.0 * number, 0, 10.0 * number + 5, 10], (length, 1))
        own = CameraTruth(frame, np.full(length, one.pid), box, np.ones(length, bool))
        cameras.append(TrackedBoxes(own, frame, box, [names[track]] * length, [track] * length))
    assert idf1(shorter, lineage) == pytest.approx(score_tracking(cameras, frames).idf1, abs=1e-4)


def test_a_small_day_from_end_to_end(happened: Day, embedded: Embedded) -> None:
    found = world.run(happened, embedded, "exact", 3600.0, MatchingOptions().fpir, {})
    told, truth = tell(happened, embedded, "exact", 3600.0)
    assert (found["sightings"], found["tracklets"]) == (len(told), len(truth))
    assert found["cross_view"]["recall_within_visits"] > 0.9
    assert found["idf1_of_visits"] > 0.9
    for by_slice in found["stated"].values():
        links = by_slice["all"]
        assert links["n"] == by_slice["cross-view"]["n"] + by_slice["same view"]["n"] > 20
        assert links["low"] <= links["ece"] <= links["high"]
        counts = [links["at_least"][bar]["n"] for bar in ("0.9", "0.99", "0.999")]
        assert counts[0] >= counts[1] > counts[2] > 5
    assert sum(row["n"] for row in found["returns"]) > 0
    text = world.table(found)
    assert "came back after" in text
    assert "look-alikes" in text


def test_pictures_are_rendered_once_and_embedded_once(
    happened: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_crops, "_PART", 2)
    few = Day(happened.seed, happened.people, happened.passages[:4])
    begun = Rendering(few, tmp_path)
    begun.render(1)
    assert begun.missing == [1]
    first = begun.path(0).read_bytes()
    monkeypatch.setattr(world_crops, "person_crops", lambda *_: pytest.fail("rendered again"))
    Rendering(few, tmp_path).render(1)
    assert begun.path(0).read_bytes() == first
    embedded = begun.embed(world.BUNDLE, 1)
    again = begun.embed(world.BUNDLE, 1)
    keys = {(p.pid, p.visit, p.camera) for p in begun.parts[0]}
    assert embedded.vectors.keys() == again.vectors.keys() == keys
    assert begun.among(embedded, 0, 2).vectors.keys() == keys
    assert not begun.among(embedded, 1, 2).vectors  # of nobody are all pictures there
    for key, rows in embedded.vectors.items():
        np.testing.assert_array_equal(rows, again.vectors[key])
        assert rows.shape == (2, embedded.model.dim)


def test_street_cameras_of_the_yard_turn_to_infrared_at_night() -> None:
    modality = {(c.number, h): modality_at(c, 3600.0 * h) for c in CAMERAS for h in (1, 7)}
    infrared = {key for key, word in modality.items() if word is Modality.INFRARED}
    assert infrared == {(10, 7), (11, 7)}
    person = world_crops.wardrobe(TEST_SEED, 8)[1]
    picture = np.random.default_rng(0).integers(0, 256, (8, 4, 3)).astype(np.uint8)
    seen = world_crops._infrared(picture, person)
    assert np.ptp(seen, axis=2).max() == 0
    np.testing.assert_array_equal(seen, world_crops._infrared(picture, person))
