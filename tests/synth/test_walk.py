from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.plaza import HALF_M
from skyreid.synth.stage import Stage
from skyreid.synth.walk import GAP_M, Walks, walk
from skyreid.synth.wardrobe import population

PEOPLE = population(30, seed=8)


@pytest.fixture(scope="module")
def crowded(stage: Stage) -> Walks:
    return walk(stage.plaza, PEOPLE, frames=240, fps=8.0, seed=8)


def test_nobody_comes_nearer_to_anybody_than_the_gap(crowded: Walks):
    smallest = np.inf
    for frame in range(len(crowded.present)):
        here = crowded.present[frame]
        place = np.stack([crowded.east[frame, here], crowded.north[frame, here]], 1)
        away = np.linalg.norm(place[:, None] - place[None], axis=-1)
        np.fill_diagonal(away, np.inf)
        smallest = min(smallest, float(away.min(initial=np.inf)))
    assert smallest > 0.9 * GAP_M
    assert smallest < 3.0, "a crowd in which nobody ever meets tests nothing"


def test_nobody_walks_through_furniture_or_walls(crowded: Walks, stage: Stage):
    place = np.stack([crowded.east[crowded.present], crowded.north[crowded.present]], 1)
    assert np.abs(place).max() < HALF_M
    assert stage.plaza.clearance(place).min() > 0.25


def test_nobody_jumps(crowded: Walks):
    both = crowded.present[1:] & crowded.present[:-1]
    steps = np.hypot(np.diff(crowded.east, axis=0), np.diff(crowded.north, axis=0))[both]
    assert steps.max() * 8 < 4.5  # m/s, a sidestep included
    assert 0.7 < np.median(steps) * 8 < 1.8


def test_people_come_and_go(crowded: Walks):
    here = crowded.present
    assert (here.any(0) & ~here.all(0)).sum() >= 5
    assert here.sum(1).min() >= 5


def test_the_same_seed_gives_the_same_walks_at_any_frame_rate(stage: Stage, crowded: Walks):
    again = walk(stage.plaza, PEOPLE, frames=60, fps=2.0, seed=8)
    assert np.array_equal(again.present, crowded.present[::4])
    assert np.allclose(again.east, crowded.east[::4])
    assert np.allclose(again.phase, crowded.phase[::4])


def test_walkers_look_where_they_go(crowded: Walks):
    both = crowded.present[1:] & crowded.present[:-1]
    east, north = np.diff(crowded.east, axis=0)[both], np.diff(crowded.north, axis=0)[both]
    heading, moving = crowded.heading[1:][both], np.hypot(east, north) * 8 > 0.8
    along = (east * np.cos(heading) + north * np.sin(heading)) / (np.hypot(east, north) + 1e-9)
    assert np.mean(along[moving] > 0.8) > 0.95


def test_another_visit_is_of_the_same_people_on_other_ways(stage: Stage, crowded: Walks):
    first = walk(stage.plaza, PEOPLE, frames=60, fps=2.0, seed=8, visit=0)
    assert np.array_equal(first.present, crowded.present[::4])
    later = walk(stage.plaza, PEOPLE, frames=60, fps=2.0, seed=8, visit=1)
    both = first.present & later.present
    apart = np.hypot(first.east - later.east, first.north - later.north)[both]
    assert np.median(apart) > 3.0
