"""A device is gone: what it could hold that the server has not, in time and numbers, nobody's face.

What is on its disk nobody can know who has not got it. So this is a bound: it holds at most what it
saw since the last of it arrived, and what of before never did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.server.store.erasures import read_erased
from skyreid.server.store.journal import open_to_read

_HOUR_NS = 3_600 * 10**9


@dataclass(frozen=True)
class Lost:
    """What a device could hold."""

    device: str
    since_ns: int
    """When the last that arrived of it was captured."""
    until_ns: int
    boots: int
    """Runs of which something arrived."""
    missing: int
    """Sightings that it made before and that are not here, at most: they wait on it, are gone, or
    were of somebody who was erased."""
    erased: int
    """Its tracklets that were erased: they were here, so it had delivered them."""
    tracklets_per_hour: int
    """Of people, in the hour with most of them."""

    @property
    def hours(self) -> float:
        """Of the period."""
        return max(self.until_ns - self.since_ns, 0) / _HOUR_NS

    @property
    def tracklets_max(self) -> int:
        """As many people as it could have seen in the period, at the rate of its fullest hour."""
        return round(self.tracklets_per_hour * self.hours)


def what_it_could_hold(journal: Path, device: str, now_ns: int) -> Lost:
    """What ``device`` could hold at ``now_ns``, from what arrived of it.

    Raises:
        InputError: there is no journal, or nothing of it has ever arrived.
    """
    with open_to_read(journal) as db:
        boots = db.execute(
            "SELECT count(*), max(seq) - min(seq) + 1, max(captured_at_ns) FROM sighting"
            " WHERE device = ? GROUP BY boot",
            (device,),
        ).fetchall()
        fullest = db.execute(
            "SELECT count(DISTINCT boot || '/' || camera || '/' || track) FROM sighting"
            " WHERE device = ? GROUP BY captured_at_ns / ? ORDER BY 1 DESC LIMIT 1",
            (device, _HOUR_NS),
        ).fetchone()
    erased = sum(key.device == device for key in read_erased(journal))
    if not boots:
        raise InputError(f"device {device!r}: nothing of it ever arrived in {journal}")
    return Lost(
        device,
        since_ns=max(int(at) for _, _, at in boots),
        until_ns=now_ns,
        boots=len(boots),
        missing=sum(int(span) - int(count) for count, span, _ in boots),
        erased=erased,
        tracklets_per_hour=int(fullest[0]),
    )
