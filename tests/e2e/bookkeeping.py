"""What the end-to-end tests count: sightings produced, sightings stored."""

import time
from collections import Counter
from collections.abc import Callable

from chain import Chain

from skyreid.contract.recording import read_sightings
from skyreid.server.store.beside import read_keys

Key = tuple[str, str, int]
"""(device, boot, seq) of a sighting."""


def produced(chain: Chain, cameras: list[str]) -> Counter[Key]:
    """Every sighting that the edge processes recorded before they sent it."""
    return Counter(
        (batch.device, batch.boot, sighting.seq)
        for camera in cameras
        for batch in read_sightings(chain.run_directory(camera))
        for sighting in batch.sightings
    )


def stored(chain: Chain) -> set[Key]:
    """Every sighting in the server's journal; (device, boot, seq) is its primary key."""
    return read_keys(chain.journal)


def wait_until(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    """Poll; a generous limit, because the machine is shared: nothing here asserts speed."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)
