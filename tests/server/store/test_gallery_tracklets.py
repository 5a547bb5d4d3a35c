"""Gallery: the latest revision of every tracklet, exactly, within one model."""

from typing import Any

import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.records import Arrived


def arrived(make: Any, track: int, model_key: str = "key", **changes: Any) -> Arrived:
    sighting = make.sighting(track, track=track, **changes)
    return Arrived("uav1", "1-a", 1, model_key, 16, 9, sighting, b"")


def key(track: int, camera: str = "cam1") -> TrackKey:
    return TrackKey("uav1", "1-a", camera, track)


def found(gallery: Gallery, track: int, k: int = 9, **where: Any) -> list[TrackKey]:
    hits = gallery.similar(key(track), k, **where)
    assert hits is not None
    return [hit for hit, _ in hits]


def test_the_most_alike_come_first_and_oneself_does_not(make: Any) -> None:
    gallery = Gallery()
    gallery.take([arrived(make, t, person=p) for t, p in ((1, 5), (2, 6), (3, 5))])
    hits = gallery.similar(key(1), 9)
    assert hits is not None
    assert [hit for hit, _ in hits] == [key(3), key(2)]
    assert hits[0][1] == pytest.approx(1.0, abs=1e-3)
    assert found(gallery, 1, k=1) == [key(3)]


def test_a_later_revision_replaces_an_earlier_one_and_never_the_reverse(make: Any) -> None:
    gallery = Gallery()
    gallery.take(
        [arrived(make, 1, person=5), arrived(make, 2, person=5), arrived(make, 3, person=6)]
    )
    gallery.take([arrived(make, 2, person=6, revision=2)])
    gallery.take([arrived(make, 2, person=5, revision=1)])
    hits = dict(gallery.similar(key(3), 9) or [])
    assert hits[key(2)] == pytest.approx(1.0, abs=1e-3)
    assert hits[key(1)] < 0.9


def test_of_revisions_that_come_together_the_highest_is_kept(make: Any) -> None:
    gallery = Gallery()
    told = [(5, 1), (6, 3), (5, 2), (5, 3)]
    gallery.take([arrived(make, 2, person=p, revision=n) for p, n in told])
    gallery.take([arrived(make, 3, person=6)])
    ((hit, similarity),) = gallery.similar(key(3), 9) or []
    assert (hit, len(gallery)) == (key(2), 2)
    assert similarity == pytest.approx(1.0, abs=1e-3)


def test_another_model_is_never_looked_at(make: Any) -> None:
    gallery = Gallery()
    gallery.take([arrived(make, 1, person=5), arrived(make, 2, "other", person=5)])
    assert found(gallery, 1) == []


def test_view_and_time_are_slices(make: Any) -> None:
    gallery = Gallery()
    first, street, late = (
        arrived(make, 1, person=5, at_s=1),
        arrived(make, 2, person=5, at_s=2, camera="cam6"),
        arrived(make, 3, person=5, at_s=3),
    )
    gallery.take([first, street, late])
    assert found(gallery, 1, views=(View.GROUND,)) == [key(2, "cam6")]
    assert found(gallery, 1, since_ns=late.sighting.captured_at_ns) == [key(3)]
    assert found(gallery, 1, until_ns=street.sighting.captured_at_ns) == [key(2, "cam6")]


def test_what_was_never_seen_is_not_found() -> None:
    assert Gallery().similar(key(1), 3) is None
