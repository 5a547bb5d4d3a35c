"""An API over a small journal, without sockets and broker, behind its guard: the fixture."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_site import AIR, JPEG, OTHER, SITE, STREET, Served

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.sighting import Modality, Pause
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived, ArrivedPicture


@pytest.fixture
def serve(tmp_path: Path, make: Any) -> Iterator[Callable[..., Served]]:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, "plaza", pictures_max_bytes=10**6)
    unseen = Pause(make.start_ns + 2 * 10**9, make.start_ns + 3 * 10**9)

    def stored(key: TrackKey, seq: int, **changes: Any) -> Arrived:
        sighting = make.sighting(seq, camera=key.camera, track=key.track, **changes)
        body = make.batch([sighting])
        from skyreid.contract.sighting_wire import encode_sighting

        assert body.sightings[0] is sighting
        return Arrived(key.device, key.boot, 1, "key", 16, 99, sighting, encode_sighting(sighting))

    journal.store(
        [
            stored(AIR, 1, at_s=1, kind=1, modality=Modality.INFRARED),
            stored(AIR, 2, at_s=2, revision=1, kind=3, crops=6, modality=Modality.INFRARED),
            stored(STREET, 1, at_s=5, kind=1, ground=None, pauses=(unseen,)),
            stored(OTHER, 3, at_s=3, kind=1),
        ],
        [],
        [ArrivedPicture("uav1", 5, Picture("1-a", "cam1", 7, 2, 5, JPEG))],
    )
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>skyreid</title>")
    (page / "main.js").write_text("export const x = 1;")
    (page / "page.css").write_text("body { color: black }")
    yield lambda site=SITE, **access: Served(path, page, site, **access)
    journal.close()
