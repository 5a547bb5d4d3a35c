"""When nobody saw whom a sighting speaks of, and how that is written: in milliseconds, by turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from skyreid.contract.errors import MessageError

MAX_PAUSES = 32
"""Pauses that a sighting says at most; of more the shortest are not said."""
_MS = 1_000_000


@dataclass(frozen=True)
class Pause:
    """A stretch in which the camera's frames were looked at and somebody was in none of them."""

    begin_ns: int
    """The first frame without them."""
    end_ns: int
    """The frame in which they are seen again."""


def between(stretches: Sequence[tuple[int, int]]) -> tuple[Pause, ...]:
    """The pauses between stretches (from, until) in which somebody was seen, ascending, in ns."""
    return tuple(Pause(one[1], two[0]) for one, two in pairwise(stretches))


def in_ms(pauses: Iterable[Pause], first_ns: int) -> list[int]:
    """How long somebody was seen, then not, then seen, and so on, from ``first_ns``.

    A pause is rounded to what is within it; one of less than a millisecond is none.
    """
    out: list[int] = []
    said = 0
    for pause in pauses:
        begin, end = -((first_ns - pause.begin_ns) // _MS), (pause.end_ns - first_ns) // _MS
        if end > begin:
            out += [begin - said, end - begin]
            said = end
    return out


def from_ms(turns_ms: Sequence[int], first_ns: int, last_ns: int) -> tuple[Pause, ...]:
    """Inverse of `in_ms`, checked.

    Raises:
        MessageError: there are too many, one is empty, or they reach beyond ``last_ns``.
    """
    if len(turns_ms) % 2:
        raise MessageError("sighting", f"pauses_ms has {len(turns_ms)} numbers, not pairs of them")
    if len(turns_ms) > 2 * MAX_PAUSES:
        detail = f"pauses_ms says {len(turns_ms) // 2} pauses, at most {MAX_PAUSES}"
        raise MessageError("sighting", detail)
    if 0 in turns_ms[1::2]:
        raise MessageError("sighting", "pauses_ms says a pause of 0 ms")
    if sum(turns_ms) * _MS > last_ns - first_ns:
        detail = f"pauses_ms ends after {sum(turns_ms)} ms, beyond captured_at_ns"
        raise MessageError("sighting", detail)
    found: list[Pause] = []
    at_ns = first_ns
    for seen, unseen in zip(turns_ms[::2], turns_ms[1::2], strict=True):
        begin_ns = at_ns + seen * _MS
        at_ns = begin_ns + unseen * _MS
        found.append(Pause(begin_ns, at_ns))
    return tuple(found)
