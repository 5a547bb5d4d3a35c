import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.data.trials import Trial, two_views
from skyreid.train.evaluate.bootstrap import Estimate
from skyreid.train.evaluate.breakdown import Outcome, outcomes, places_of
from skyreid.train.evaluate.metrics import Embedded, Score, score


def a_set(rng: np.random.Generator, count: int) -> Embedded:
    """Cameras 1 and 2 fly, 6 and 7 stand; rows are few directions, so that many are tied."""
    rows = np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)]
    rows *= rng.choice([-1, 1], (count, 1))
    cameras = rng.choice([1, 2, 6, 7], count)
    return Embedded(rows, rng.integers(0, 4, count), cameras, cameras <= 2)


def by_name(query: Embedded, gallery: Embedded, **more: object) -> dict[str, Outcome]:
    trials = two_views(query.aerial, gallery.aerial)
    places = places_of(query, gallery)
    found = outcomes(query, gallery, trials, places, **more)[1]  # type: ignore[arg-type]
    return {outcome.trial.name: outcome for outcome in found}


def same(found: Score, wanted: Score) -> None:
    assert found.queries == wanted.queries
    np.testing.assert_array_equal(found.cmc, wanted.cmc)
    assert found.average_precision == pytest.approx(
        wanted.average_precision, abs=1e-12, nan_ok=True
    )
    assert found.means["mINP"] == pytest.approx(wanted.means["mINP"], abs=1e-12, nan_ok=True)


def pooled(scores: list[Score]) -> tuple[int, float, float]:
    """Queries, hits at rank 1 and summed average precision of several scores."""
    return (
        sum(s.queries for s in scores),
        sum(s.queries * s.rank1 for s in scores if s.queries),
        sum(s.queries * s.average_precision for s in scores if s.queries),
    )


def sums(estimate: Estimate | None) -> tuple[int, float, float]:
    return (0, 0.0, 0.0) if estimate is None else pooled([estimate.score])


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1))
def test_without_its_camera_a_query_searches_a_gallery_that_never_held_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = a_set(rng, 9), a_set(rng, 30)
    found = by_name(query, gallery)
    for name, searched in (
        ("ALL", np.ones(30, np.bool_)),
        ("A-A", gallery.aerial),
        ("G-G", ~gallery.aerial),
    ):
        asking = {"ALL": query.aerial | True, "A-A": query.aerial, "G-G": ~query.aerial}[name]
        wanted = [
            score(
                query.where(asking & (query.cameras == camera)),
                gallery.where(searched & (gallery.cameras != camera)),
            )
            for camera in (1, 2, 6, 7)
        ]
        assert sums(found[name].without_camera) == pytest.approx(pooled(wanted), abs=1e-5)


def test_across_views_no_camera_can_be_left_out() -> None:
    rng = np.random.default_rng(0)
    found = by_name(a_set(rng, 20), a_set(rng, 60))
    assert [name for name, o in found.items() if o.without_camera is None] == [
        "A<->G", "A->G", "G->A",
    ]  # fmt: skip


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1))
def test_a_drone_asks_with_its_queries_and_is_searched_with_its_gallery_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = a_set(rng, 9), a_set(rng, 30)
    found = by_name(query, gallery)
    for camera in (1, 2):
        for name, wanted in (
            (
                "A->G",
                score(query.where(query.cameras == camera), gallery.where(~gallery.aerial)),
            ),
            (
                "G->A",
                score(query.where(~query.aerial), gallery.where(gallery.cameras == camera)),
            ),
        ):
            parts = found[name].parts.get("camera", {})
            if wanted.queries:
                same(parts[f"camera {camera}"].score, wanted)
            else:
                assert f"camera {camera}" not in parts
    assert not found["ALL"].parts
    assert not found["A<->G"].parts


def test_the_queries_of_a_drone_are_the_protocols_queries() -> None:
    rng = np.random.default_rng(3)
    found = by_name(a_set(rng, 40), a_set(rng, 90))["A->G"]
    parts = [estimate.score for estimate in found.parts["camera"].values()]
    assert len(parts) == 2
    assert pooled(parts) == pytest.approx(pooled([found.whole.score]), abs=1e-5)


def test_by_cue_only_queries_of_those_people_count_and_all_the_gallery_is_searched() -> None:
    rng = np.random.default_rng(5)
    query, gallery = a_set(rng, 40), a_set(rng, 90)
    found = by_name(query, gallery, cues={"hat": np.array([1, 3]), "shoe": np.array([2])})
    for name, people in (("hat", [1, 3]), ("shoe", [2])):
        chosen = query.where(query.aerial & np.isin(query.people, people))
        same(found["A->G"].parts["cue"][name].score, score(chosen, gallery.where(~gallery.aerial)))
    assert "cue" not in found["ALL"].parts


def test_a_protocol_that_nobody_can_answer_has_zeros_and_no_parts() -> None:
    rng = np.random.default_rng(6)
    query, gallery = a_set(rng, 9), a_set(rng, 30)
    strangers = Embedded(gallery.embeddings, gallery.people + 9, gallery.cameras, gallery.aerial)
    found = by_name(query, strangers)
    assert found["A->G"].whole.score.queries == found["A->G"].whole.people == 0
    assert not found["A->G"].parts


def test_trials_may_share_pictures_and_search_part_of_the_gallery() -> None:
    rng = np.random.default_rng(7)
    query, gallery = a_set(rng, 20), a_set(rng, 60)
    few, some = np.arange(0, 60, 3), np.arange(20, 60)
    trials = (Trial("few", np.arange(12), few, False), Trial("some", np.arange(20), some, True))
    _, found = outcomes(query, gallery, trials, places_of(query, gallery))
    same(found[0].whole.score, score(query.rows(np.arange(12)), gallery.rows(few)))
    same(
        found[1].whole.score,
        score(query.in_two_domains(), gallery.rows(some).in_two_domains()),
    )


def named(cameras: list[int], altitudes: list[float]) -> tuple[str, tuple[str, ...]]:
    count = len(cameras)
    both = Embedded(
        np.ones((count, 1), np.float32),
        np.zeros(count, np.int64),
        np.asarray(cameras),
        np.asarray(cameras) <= 5,
    )
    metres = np.asarray(altitudes, np.float64)
    places = places_of(both, both.rows(np.arange(0)), metres, metres[:0])
    assert (places.query >= 0).tolist() == both.aerial.tolist()
    return places.kind, places.names


def test_places_are_named_by_what_is_known_of_the_altitude() -> None:
    nan = float("nan")
    assert named([1, 2, 6], [nan, nan, nan]) == ("camera", ("camera 1", "camera 2"))
    assert named([1, 2, 6], [15.2, nan, 3]) == ("camera", ("camera 1", "camera 2"))
    assert named([1, 2, 6], [15.2, 40, nan]) == ("camera", ("camera 1, 15 m", "camera 2, 40 m"))
    assert named([1, 1, 2], [15, 25, 15]) == ("altitude", ("15 m", "25 m"))
    many = named([1] * 12, [10 + 3 * i for i in range(12)])
    assert many == ("altitude", ("10 to 20 m", "20 to 30 m", "30 to 40 m", "40 to 50 m"))
    assert named([6, 7], [2, 3]) == ("camera", ())
