"""The members of an identity when some of them go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from skyreid.contract.identity_event import Match, TrackKey


def left(
    members: Mapping[TrackKey, Match | None], gone: Collection[TrackKey]
) -> dict[TrackKey, Match | None]:
    """Those who stay; at least one does. Where the founder left, the next is the founder."""
    stay = {t: m for t, m in members.items() if t not in gone}
    if all(m is not None for m in stay.values()):
        stay[next(iter(stay))] = None
    return stay


def after_forgetting(
    members: Mapping[TrackKey, Match | None], gone: Collection[TrackKey]
) -> dict[TrackKey, Match | None]:
    """The same; who is here because of one who is gone keeps no evidence against that one."""
    stay = left(members, gone)
    founder = next(track for track, match in stay.items() if match is None)
    return {
        track: replace(match, other=founder, evidence=())
        if match is not None and match.other in gone
        else match
        for track, match in stay.items()
    }
