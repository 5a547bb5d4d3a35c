from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store import segments
from skyreid.server.store.gallery import Gallery


def key(name: Any) -> TrackKey:
    return TrackKey("uav1", "1-a", f"cam-{name}", 7)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(count, 16))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_search_finds_what_a_plain_loop_finds_across_segments(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 7)
    data, query = vectors(50), vectors(1, 9)[0]
    gallery = Gallery()
    for i, vector in enumerate(data):
        gallery.add(key(i), "m", View.AERIAL if i % 3 else View.GROUND, 100 + i, vector)
    for k in (1, 5, 100):
        hits = gallery.search(query, "m", View.AERIAL, k, since_ns=110, until_ns=140)
        allowed = [i for i in range(50) if i % 3 and 10 <= i <= 40]
        want = sorted(allowed, key=lambda i: -float(data[i].astype(np.float16) @ query))[:k]
        assert [hit.key for hit in hits] == [key(i) for i in want]
        assert np.allclose([h.similarity for h in hits], data[want] @ query, atol=1e-3)


def test_another_model_or_view_is_never_searched():
    gallery = Gallery()
    gallery.add(key("a"), "m", View.AERIAL, 1, vectors(1)[0])
    assert gallery.search(vectors(1)[0], "n", View.AERIAL, 5) == []
    assert gallery.search(vectors(1)[0], "m", View.GROUND, 5) == []
    assert [h.key for h in gallery.search(vectors(1)[0], "m", View.AERIAL, 5)] == [key("a")]


def test_a_later_revision_takes_the_place_of_the_former(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 7)
    data, gallery = vectors(100), Gallery()
    for i, vector in enumerate(data):
        gallery.add(key(i % 5), "m", View.GROUND, i, vector, revision=i)
    assert [each.rows for each in gallery._all] == [5]
    found = gallery.search(data[97], "m", View.GROUND, 1, since_ns=95)
    assert [h.key for h in found] == [key(2)]
    gallery.add(key(2), "m", View.AERIAL, 200, data[0], revision=200)  # seen by another view now
    assert len(gallery) == 5
    assert key(2) not in [h.key for h in gallery.search(data[0], "m", View.GROUND, 9)]


def test_one_key_for_two_widths_is_two_models():
    gallery = Gallery()
    gallery.add(key("wide"), "m", View.AERIAL, 1, vectors(1)[0])
    gallery.add(key("narrow"), "m", View.AERIAL, 1, vectors(1)[0][:8])
    assert [h.key for h in gallery.search(vectors(1)[0], "m", View.AERIAL, 5)] == [key("wide")]
    assert [h.key for h in gallery.search(vectors(1)[0][:8], "m", View.AERIAL, 5)] == [
        key("narrow")
    ]


def test_a_dropped_vector_is_overwritten_and_never_found_again():
    gallery = Gallery()
    gallery.add(key("a"), "m", View.AERIAL, 1, vectors(1)[0])
    (segment,) = gallery._all
    assert gallery.drop({key("a")}) == 1
    assert gallery.drop({key("a")}) == 0
    assert gallery.search(vectors(1)[0], "m", View.AERIAL, 5) == []
    assert not segment.vectors.any()
    assert gallery._all == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.booleans())))
def test_any_history_of_adds_and_removes_leaves_the_last_word_of_each_key(history):
    data, gallery = vectors(10), Gallery()
    want: dict[Any, Any] = {}
    for revision, (name, which, remove) in enumerate(history):
        if remove:
            assert gallery.drop({key(name)}) == (key(name) in want)
            want.pop(key(name), None)
        else:
            gallery.add(key(name), "m", View.GROUND, 1, data[which], revision=revision)
            want[key(name)] = which
    hits = gallery.search(data[0], "m", View.GROUND, 10)
    assert {h.key for h in hits} == set(want)
    assert len(gallery) == len(want)
    for hit in hits:
        assert abs(hit.similarity - float(data[want[hit.key]] @ data[0])) < 1e-3


def test_products_are_those_of_a_float32_copy_of_any_float16():
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = bits[np.isfinite(bits)]
    rows = np.resize(finite, (len(finite) // 16 + 1, 16))
    segment = segments.Segment.empty("m", 16, View.AERIAL)
    segment.vectors, segment.rows = rows, len(rows)
    query = vectors(1)[0]
    want = rows.astype(np.float32) @ query
    assert np.allclose(segment.products(query), want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("flushes", [1, 3])
def test_what_was_flushed_is_there_in_the_next_life_mapped_and_once(tmp_path, monkeypatch, flushes):
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 16)
    data, gallery = vectors(40), Gallery(tmp_path / "g")
    for turn in range(flushes):
        for i, vector in enumerate(data):
            view = View.AERIAL if i % 2 else View.GROUND
            gallery.add(key(i), "m", view, i, vector, revision=turn * (i % 3 == 0))
        gallery.flush(40 + turn)
    sealed = [each for each in gallery._all if each.sealed]
    assert sealed
    assert not any(each.vectors.flags.writeable for each in sealed)
    again = Gallery(tmp_path / "g", last=99)
    assert (again.through, len(again)) == (39 + flushes, 40)
    for view in View:
        want = gallery.search(data[0], "m", view, 40)
        assert again.search(data[0], "m", view, 40) == want
        assert len(want) == 20
    assert sum(each.alive[: each.rows].sum() for each in again._all) == 40
    again.add(key(3), "m", View.AERIAL, 3, data[9], revision=9)
    assert len(again) == 40
    assert again.drop({key(3), key(4), key(999)}) == 2
    third = Gallery(tmp_path / "g", last=99)
    assert key(3) not in third
    assert len(third) == 38
    assert len(Gallery(tmp_path / "g", last=9)) == 0  # of a later state than the journal's
    names = sorted(path.name for path in (tmp_path / "g").iterdir())
    assert len(names) == 1 + len(third._all)


def test_a_segment_that_is_not_as_it_was_written_is_made_anew_from_the_journal(tmp_path, caplog):
    gallery = Gallery(tmp_path / "g")
    gallery.add(key(1), "m", View.AERIAL, 1, vectors(1)[0])
    gallery.flush(1)
    (path,) = (tmp_path / "g").glob("*.segment")
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    again = Gallery(tmp_path / "g", last=1)
    assert (len(again), again.through) == (0, 0)
    assert "not as it was written" in caplog.text


def test_a_segment_expires_as_a_whole_and_is_sealed_in_time_for_that(tmp_path):
    hour = 3600 * 10**9
    gallery = Gallery(tmp_path / "g")
    for i, vector in enumerate(vectors(10)):
        gallery.add(key(i), "m", View.AERIAL, 1, vector, at_ns=(1 + i) * hour)
    assert [each.rows for each in gallery._all] == [3, 3, 3, 1]
    gallery.flush(10)
    assert gallery.expire(4 * hour) == 1
    assert gallery.expire(4 * hour) == 0
    assert key(2) not in gallery
    assert key(3) in Gallery(tmp_path / "g", last=10)
    assert len(list((tmp_path / "g").glob("*.segment"))) == 3


def test_what_a_killed_write_left_goes_with_the_next_drop(tmp_path: Path) -> None:
    for name in ("00000007.segment", ".00000001.segment.partial"):
        (tmp_path / name).write_bytes(b"of somebody")
    gallery = Gallery(tmp_path)
    assert gallery.drop([TrackKey("uav1", "1-a", "cam1", 1)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"segments.json"}
