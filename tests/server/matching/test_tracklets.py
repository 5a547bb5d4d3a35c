from itertools import permutations

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Ground
from skyreid.server.matching.clustering import candidates, open_beyond_time
from skyreid.server.matching.likelihood import STEP_S, on_grid
from skyreid.server.matching.odds import Scores
from skyreid.server.matching.tracklets import (
    PATH_GAP_S,
    Tracklet,
    Window,
    begin,
    revised,
)

KEY = TrackKey("d", "1-a", "cam1", 1)


def test_a_path_keeps_its_order_whichever_way_revisions_come(make):
    sightings = [make.sighting(1, revision=n, at_s=at_s) for n, at_s in ((0, 1.0), (1, 9.0))]
    for first, second in (sightings, sightings[::-1]):
        path = revised(begin(KEY, "m", first), "m", second).path
        assert (path[:, 0] - path[0, 0]).tolist() == [0.0, 8.0]


def test_a_clock_that_is_set_does_not_draw_a_path_of_years(make):
    year_s = 365 * 86400.0
    before = make.sighting(1, revision=0, at_s=1.0)
    after = make.sighting(1, revision=1, at_s=year_s)
    way = revised(begin(KEY, "m", before), "m", after).way
    assert len(way) == 1
    assert len(on_grid(way)[1]) == 1
    still = make.sighting(1, revision=1, at_s=1.0 + PATH_GAP_S)
    way = revised(begin(KEY, "m", before), "m", still).way
    assert len(on_grid(way)[1]) == PATH_GAP_S / STEP_S + 1


def test_a_tracklet_is_the_same_in_whatever_order_its_sightings_come(make):
    """Its clock was an hour ahead for a while, twice one moment was told of, one had no place."""

    def ground(east_m):
        return Ground(float(east_m), 0.0, 0.1, 0.0, 0.1)

    hour_s = 3600.0
    told = [
        make.sighting(1, revision=0, track=1, at_s=1.0, ground=ground(0)),
        make.sighting(2, revision=1, track=1, at_s=hour_s, ground=ground(9)),
        make.sighting(3, revision=2, track=1, at_s=hour_s + 1, ground=ground(8)),
        make.sighting(4, revision=3, track=1, at_s=3.0, ground=ground(1)),
        make.sighting(5, revision=4, track=1, at_s=3.0, ground=ground(2)),
        make.sighting(6, revision=5, track=1, at_s=4.0, ground=None),
    ]
    found = set()
    for order in permutations(told):
        tracklet = begin(KEY, "m", order[0])
        for sighting in order[1:]:
            tracklet = revised(tracklet, "m", sighting)
        found.add((tracklet.sighting.seq, tracklet.path.tobytes(), tracklet.way.tobytes()))
    assert len(found) == 1
    assert [row[1] for row in tracklet.way.tolist()] == [0.0, 2.0]


def test_rivals_within_reach_are_counted_about_right_though_few_are_looked_at(world, plaza):
    """Two people were exchanged: the nearest stood for all, who are rivals less than they."""
    made = world(8, plaza, people=60, breaks=0.15)
    known: dict[TrackKey, Tracklet] = {}
    for device, boot, model, sighting in made.told:
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        before = known.get(key, begin(key, model, sighting))
        known[key] = revised(before, model, sighting)
    window = Window(overlap_tolerance_s=0.3)
    for tracklet in known.values():
        window.put(tracklet)
    scores = Scores(window, {})
    scores.refresh({}, whole=True)
    rows = window.taken()
    assert len(rows) > 300
    candidates(scores, rows, rows)
    counted = scores.between(rows, np.roll(rows, 1)).prior
    pairs = scores.between(np.repeat(rows, len(rows)), np.tile(rows, len(rows)))
    open_to = open_beyond_time(pairs).reshape(len(rows), -1)
    np.fill_diagonal(open_to, 0.0)
    scores.near(rows, open_to.sum(1))
    exact = scores.between(rows, np.roll(rows, 1)).prior
    print(
        np.abs(counted - exact).mean(),
        np.abs(counted - exact).max(),
        (counted - exact).mean(),
        len(rows),
    )
    assert np.abs(counted - exact).mean() < 0.1  # of the logarithm; it was .54


def test_a_window_asked_after_each_revision_or_after_all_has_the_same_rows(make):
    asked, unasked = Window(overlap_tolerance_s=0.5), Window(overlap_tolerance_s=0.5)
    held: dict[TrackKey, Tracklet] = {}
    for n in range(300):
        track = n % 70  # more than it has room for at first
        key = TrackKey("d", "1-a", "cam1", track)
        sighting = make.sighting(n + 1, track=track, revision=n, person=n, at_s=1.0 + n)
        held[key] = revised(held[key], "m", sighting) if key in held else begin(key, "m", sighting)
        if n == 200:
            for window in (asked, unasked):
                window.drop(TrackKey("d", "1-a", "cam1", 3))
        rows = {window.put(held[key]) for window in (asked, unasked)}
        assert len(rows) == 1
        assert asked.facts["last_ns"][rows.pop()] == sighting.captured_at_ns
    for name in set(asked.facts.dtype.names or ()) - {"at"}:  # where in the pool is its own matter
        assert (asked.facts[name] == unasked.facts[name]).all(), name
    assert (asked.vectors == unasked.vectors).all()
    here = unasked.taken()
    first = unasked.facts["start"][here]
    assert (asked.where(here, first)[0] == unasked.where(here, first)[0]).all()
