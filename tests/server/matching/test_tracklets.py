from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching.pairs import STEP_S, _on_grid
from skyreid.server.matching.tracklets import PATH_GAP_S, begin, revised

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
    path = revised(begin(KEY, "m", before), "m", after).path
    assert len(path) == 1
    assert len(_on_grid(path)[1]) == 1
    still = make.sighting(1, revision=1, at_s=1.0 + PATH_GAP_S)
    path = revised(begin(KEY, "m", before), "m", still).path
    assert len(_on_grid(path)[1]) == PATH_GAP_S / STEP_S + 1
