from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.sighting import View
from skyreid.server.store import gallery as module
from skyreid.server.store.gallery import Gallery


def vectors(count: int, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(count, 16))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_search_finds_what_a_plain_loop_finds_across_segments(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_ROWS", 7)
    data, query = vectors(50), vectors(1, 9)[0]
    gallery = Gallery()
    for i, vector in enumerate(data):
        gallery.add(i, "m", View.AERIAL if i % 3 else View.GROUND, 100 + i, vector)
    for k in (1, 5, 100):
        hits = gallery.search(query, "m", View.AERIAL, k, since_ns=110, until_ns=140)
        allowed = [i for i in range(50) if i % 3 and 10 <= i <= 40]
        want = sorted(allowed, key=lambda i: -float(data[i].astype(np.float16) @ query))[:k]
        assert [hit.key for hit in hits] == want
        assert np.allclose([h.similarity for h in hits], data[want] @ query, atol=1e-3)


def test_another_model_or_view_is_never_searched():
    gallery = Gallery()
    gallery.add("a", "m", View.AERIAL, 1, vectors(1)[0])
    assert gallery.search(vectors(1)[0], "n", View.AERIAL, 5) == []
    assert gallery.search(vectors(1)[0], "m", View.GROUND, 5) == []
    assert [h.key for h in gallery.search(vectors(1)[0], "m", View.AERIAL, 5)] == ["a"]


def test_a_later_revision_takes_the_place_of_the_former(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_ROWS", 7)
    data, gallery = vectors(100), Gallery()
    for i, vector in enumerate(data):
        gallery.add(i % 5, "m", View.GROUND, i, vector)
    (segments,) = gallery._segments.values()
    assert len(segments) == 1
    found = gallery.search(data[97], "m", View.GROUND, 1, since_ns=95)
    assert [h.key for h in found] == [2]
    gallery.add(2, "m", View.AERIAL, 200, data[0])  # seen by another view now
    assert len(gallery) == 5
    assert 2 not in [h.key for h in gallery.search(data[0], "m", View.GROUND, 9)]


def test_one_key_for_two_widths_is_two_models():
    gallery = Gallery()
    gallery.add("wide", "m", View.AERIAL, 1, vectors(1)[0])
    gallery.add("narrow", "m", View.AERIAL, 1, vectors(1)[0][:8])
    assert [h.key for h in gallery.search(vectors(1)[0], "m", View.AERIAL, 5)] == ["wide"]
    assert [h.key for h in gallery.search(vectors(1)[0][:8], "m", View.AERIAL, 5)] == ["narrow"]


def test_a_removed_vector_is_overwritten_and_never_found_again():
    gallery = Gallery()
    gallery.add("a", "m", View.AERIAL, 1, vectors(1)[0])
    assert gallery.remove("a")
    assert not gallery.remove("a")
    assert gallery.search(vectors(1)[0], "m", View.AERIAL, 5) == []
    assert not any(s.vectors.any() for group in gallery._segments.values() for s in group)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.booleans())))
def test_any_history_of_adds_and_removes_leaves_the_last_word_of_each_key(history):
    data, gallery = vectors(10), Gallery()
    want: dict[Any, Any] = {}
    for key, which, remove in history:
        if remove:
            assert gallery.remove(key) == (key in want)
            want.pop(key, None)
        else:
            gallery.add(key, "m", View.GROUND, 1, data[which])
            want[key] = which
    hits = gallery.search(data[0], "m", View.GROUND, 10)
    assert {h.key for h in hits} == set(want)
    assert len(gallery) == len(want)
    for hit in hits:
        assert abs(hit.similarity - float(data[want[hit.key]] @ data[0])) < 1e-3
