from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.options import PLACES, Place
from skyreid.synth.places import build_place
from skyreid.synth.plaza import HALF_M, Plaza
from skyreid.synth.walk import GAP_M, walk
from skyreid.synth.wardrobe import population

PEOPLE = population(20, seed=8)
MAST = (-14.0, 12.0)


@pytest.fixture(scope="module")
def places() -> dict[Place, Plaza]:
    return {place: build_place(place, 6, keep_clear=[MAST]) for place in PLACES}


def test_places_differ_in_ground_houses_and_furniture(places: dict[Place, Plaza]):
    grounds = [place.backdrop.ground[3].astype(int) for place in places.values()]
    walls = [place.backdrop.walls.astype(int) for place in places.values()]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(np.abs(grounds[i] - grounds[j]).max(-1) > 25) > 0.4
        assert np.mean(np.abs(walls[i] - walls[j]).max(-1) > 25) > 0.3
    assert len({len(place.props) for place in places.values()}) == 3


@pytest.mark.parametrize("place", ["street", "yard"])
def test_people_follow_the_ways_and_never_walk_through_things_or_each_other(
    places: dict[Place, Plaza], place: Place
):
    here = places[place]
    walks = walk(here, PEOPLE, frames=60, fps=4.0, seed=8, rim=0.25)
    points = np.stack([walks.east[walks.present], walks.north[walks.present]], 1)
    assert len(points) > 300
    assert np.abs(points).max() < HALF_M
    assert here.clearance(points).min() > 0.25
    assert np.mean([_from_ways(here, point) < 2.6 for point in points[::7]]) > 0.9
    for frame in range(0, 60, 6):
        crowd = np.stack([walks.east[frame], walks.north[frame]], 1)[walks.present[frame]]
        away = np.linalg.norm(crowd[:, None] - crowd[None], axis=-1)
        assert away[~np.eye(len(crowd), dtype=bool)].min(initial=np.inf) > 0.9 * GAP_M


def _from_ways(place: Plaza, point: np.ndarray) -> float:
    """Metres to the nearest way."""
    nearest = np.inf
    for way in place.ways:
        for a, b in zip(way.corners[:-1], way.corners[1:], strict=True):
            part = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            nearest = min(nearest, float(np.linalg.norm(a + part * (b - a) - point)))
    return nearest


@pytest.mark.parametrize("place", ["street", "yard"])
def test_the_middle_and_the_rim_have_ways_of_their_own(places: dict[Place, Plaza], place: Place):
    rim = [way for way in places[place].ways if way.rim]
    assert rim
    for way in places[place].ways:
        line = np.concatenate(
            [np.linspace(a, b, 50) for a, b in zip(way.corners[:-1], way.corners[1:], strict=True)]
        )
        crosses_middle = bool((np.abs(line).max(1) < 16).any())
        assert crosses_middle != way.rim


@pytest.mark.parametrize("place", PLACES)
def test_nothing_stands_before_a_camera_s_mast(places: dict[Place, Plaza], place: Place):
    assert places[place].clearance(np.array([MAST])).min() > 1.5


@pytest.mark.parametrize("place", ["street", "yard"])
def test_the_same_seed_gives_the_same_place_and_another_seed_another(
    places: dict[Place, Plaza], place: Place
):
    again, other = build_place(place, 6, keep_clear=[MAST]), build_place(place, 7)
    assert np.array_equal(again.backdrop.ground[0], places[place].backdrop.ground[0])
    assert np.array_equal(again.footprints, places[place].footprints)
    assert not np.array_equal(other.backdrop.ground[0], places[place].backdrop.ground[0])
