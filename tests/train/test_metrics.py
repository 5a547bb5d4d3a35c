import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.metrics import MAX_RANK, PROTOCOLS, Embedded, protocols, score


def a_set(rng: np.random.Generator, count: int, people: int) -> Embedded:
    rows = rng.normal(size=(count, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cameras = rng.integers(1, 5, count)
    return Embedded(rows, rng.integers(0, people, count), cameras, cameras <= 2)


def naive(query: Embedded, gallery: Embedded) -> tuple[int, list[float], float, float]:
    """The same rules, one item at a time."""
    valid, first_hits, precisions, penalties = 0, [0.0] * MAX_RANK, [], []
    for q in range(len(query.people)):
        ranked = sorted(
            range(len(gallery.people)),
            key=lambda g: (float(1 - query.embeddings[q] @ gallery.embeddings[g]), g),
        )
        kept = [
            bool(gallery.people[g] == query.people[q])
            for g in ranked
            if not (gallery.people[g] == query.people[q] and gallery.cameras[g] == query.cameras[q])
        ]
        if not any(kept):
            continue
        valid += 1
        hits, precision = 0, []
        for position, match in enumerate(kept, start=1):
            if match:
                hits += 1
                precision.append(hits / position)
                last = position
        precisions.append(sum(precision) / len(precision))
        penalties.append(hits / last)
        for rank in range(MAX_RANK):
            first_hits[rank] += any(kept[: rank + 1])
    return valid, first_hits, sum(precisions), sum(penalties)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 7))
def test_scores_equal_a_naive_loop_whatever_the_block(seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = a_set(rng, 9, 5), a_set(rng, 31, 5)
    found = score(query, gallery, block_bytes=blocks * 12 * 31)
    valid, first_hits, precisions, penalties = naive(query, gallery)
    assert found.queries == valid
    if valid:
        np.testing.assert_allclose(found.cmc, np.asarray(first_hits) / valid)
        assert found.average_precision == pytest.approx(precisions / valid)
        assert found.inverse_penalty == pytest.approx(penalties / valid)


def test_three_queries_by_hand() -> None:
    """Angles on a circle; the gallery lies at 0, 10, 20, 30, 40 degrees."""

    def at(degrees: list[float]) -> np.ndarray:
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)

    gallery = Embedded(
        at([0, 10, 20, 30, 40]),
        np.array([1, 2, 1, 2, 1]),
        np.array([6, 6, 7, 7, 8]),
        np.array([False] * 5),
    )
    query = Embedded(
        at([-5, -5, -5]),
        np.array([1, 2, 9]),
        np.array([6, 1, 1]),
        np.array([False, True, True]),
    )
    found = score(query, gallery)
    # Query 1 (person 1, camera 6): the item at 0 is junk; kept 2 1 2 1 -> AP (1/2 + 2/4) / 2.
    # Query 2 (person 2): kept 1 2 1 2 1 -> AP (1/2 + 2/4) / 2, last positive at 4. Query 3: nobody.
    assert found.queries == 2
    assert found.cmc[:3].tolist() == [0.0, 1.0, 1.0]
    assert found.average_precision == pytest.approx(0.5)
    assert found.inverse_penalty == pytest.approx(0.5)


def test_equal_distances_keep_the_order_of_the_gallery() -> None:
    one = np.ones((1, 1), np.float32)
    query = Embedded(one, np.array([1]), np.array([1]), np.array([True]))
    for people, rank1 in (([1, 2], 1.0), ([2, 1], 0.0)):
        gallery = Embedded(
            np.ones((2, 1), np.float32),
            np.array(people),
            np.array([6, 6]),
            np.array([False, False]),
        )
        assert score(query, gallery).rank1 == rank1


def test_without_a_valid_query_everything_is_zero() -> None:
    rng = np.random.default_rng(0)
    query, gallery = a_set(rng, 3, 2), a_set(rng, 5, 2)
    strangers = Embedded(gallery.embeddings, gallery.people + 9, gallery.cameras, gallery.aerial)
    found = score(query, strangers)
    assert (found.queries, found.rank1, found.average_precision) == (0, 0.0, 0.0)


def test_both_kinds_of_cross_view_protocol_differ_as_named() -> None:
    """In A<->G a same-view stranger may come first; in A->G the gallery has no such item."""
    query = Embedded(np.array([[1, 0]], np.float32), np.array([1]), np.array([1]), np.array([True]))
    gallery = Embedded(
        np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], np.float32),
        np.array([1, 2, 1, 3]),
        np.array([2, 2, 6, 6]),
        np.array([True, True, False, False]),
    )
    found = protocols(query, gallery)
    assert list(found) == list(PROTOCOLS)
    assert found["A<->G"].rank1 == 0  # person 1 in the other aerial camera is junk, person 2 is not
    assert found["A->G"].rank1 == 1
    assert found["A-A"].rank1 == 1
    assert found["G->A"].queries == found["G-G"].queries == 0


def test_the_authors_evaluator_gives_the_same_numbers(shared: Path) -> None:
    recorded = np.load(shared / "parity" / "cargo-protocols.seed11.npz")
    wanted = json.loads((shared / "parity" / "cargo-protocols.seed11.json").read_text())

    def recorded_set(part: str) -> Embedded:
        rows = recorded[f"{part}_features"]
        cameras = recorded[f"{part}_cams"]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return Embedded(unit, recorded[f"{part}_pids"], cameras, cameras <= 5)

    found = protocols(recorded_set("query"), recorded_set("gallery"))
    for theirs, ours in (("ALL", "ALL"), ("AG", "A<->G"), ("GG", "G-G"), ("AA", "A-A")):
        mine, row = found[ours], wanted[theirs]
        assert mine.queries == row["valid_queries"]
        for key, value in (
            ("rank1", mine.cmc[0]),
            ("rank5", mine.cmc[4]),
            ("rank10", mine.cmc[9]),
            ("mAP", mine.average_precision),
            ("mINP", mine.inverse_penalty),
        ):
            assert 100 * value == pytest.approx(row[key], abs=1e-4), (ours, key)
