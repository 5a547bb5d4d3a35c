"""What the API shows of a return: of whom, how sure, and what of them there is to be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skyreid.contract.identity_event import Return, TrackKey
from skyreid.server.matching.identity import State
from skyreid.server.matching.known import Identity

Json = dict[str, Any]


def return_of(identity: Identity) -> Return | None:
    """The return that is shown: the one that holds, else one that was undone."""
    undone = [k for k in identity.links if k.state == "undone" and k.track in identity.members]
    return identity.link or (undone[-1] if undone else None)


def keys_of(identity: Identity) -> list[TrackKey]:
    """The tracklets that an answer about an identity shows."""
    link = return_of(identity)
    return [*identity.members, *([] if link is None else [link.other])]


def returned(
    state: State,
    identity: Identity,
    rows: Mapping[TrackKey, Json],
    shown: Callable[[Json], Json],
) -> Json | None:
    """A return as JSON; None where there is none.

    Args:
        state: who is who.
        identity: who came.
        rows: of `keys_of`.
        shown: a row as it is shown, by the site's policy for pictures.
    """
    link = return_of(identity)
    if link is None:
        return None
    before, row = state.tracks[link.other], rows.get(link.other)
    return {
        "identity": before,
        "person": state.person(before),
        **link.to_json(),
        "tracklet": None if row is None else shown(row),
    }
