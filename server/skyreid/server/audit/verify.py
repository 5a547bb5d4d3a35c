"""Is the audit log as it was written? Each line's hash, the chain, and heads that have left.

A hash chain alone says only that it fits together: whoever may write to it can write all of it
anew. The heads outside (``--anchor``) say what it was, a minute apart, and between which two of
them it was changed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from skyreid.contract.errors import InputError
from skyreid.server.audit.line import CUT, FIRST, TORN, Head, Line, read_line, torn
from skyreid.server.audit.log import DAY_NS, SEGMENT_BYTES, segments, time_ns

_CUT = re.compile(r"through (\d{1,18}) ([0-9a-f]{64})")
_EARLY_NS = 3_600 * 10**9


class Anchor(NamedTuple):
    """A head that left the machine."""

    n: int
    hash: str
    at_ns: int
    """When, by the server's clock."""
    at: str


@dataclass
class Verdict:
    """What was found."""

    first: int = 0
    head: Head = field(default_factory=lambda: Head(0, FIRST))
    anchors: int = 0
    """Heads that were compared."""
    notes: list[str] = field(default_factory=list)
    """What a kill or retention did: no tampering."""
    wrong: list[str] = field(default_factory=list)
    """What was tampered with, a line each."""


def read_anchors(path: Path, site: str) -> list[Anchor]:
    """Heads of a site in a file: a JSON object a line, whatever stands before it (as in syslog).

    One broker may have several sites, and one file the heads of all of them.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"anchor {path}: {error.strerror}") from error
    found = []
    for number, row in enumerate(text.splitlines(), 1):
        _, brace, rest = row.partition("{")
        if not brace:
            continue
        try:
            said = json.loads(brace + rest)
            head = Anchor(int(said["n"]), str(said["hash"]), time_ns(said["at"]), str(said["at"]))
            if said["site"] == site:
                found.append(head)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"anchor {path}, line {number}: no head of an audit log") from error
    if not found:
        raise InputError(f"anchor {path}: holds no head of the audit log of site {site!r}")
    return sorted(found)


def lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every line with its place, ``FILE:NUMBER``; the last may have no end, and has none then.

    Raises:
        InputError: there is no audit log.
    """
    found = segments(folder)
    if not found:
        raise InputError(f"audit log {folder}: there is none; has the server run?")
    for path in found:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"audit log {path}: {error.strerror}") from error
        rows = data.split(b"\n")
        for number, raw in enumerate(rows, 1):
            if number < len(rows):
                yield f"{path.name}:{number}", raw
            elif raw:
                yield f"{path.name}:{number}, without its end", raw


def verify(folder: Path, anchors: Iterable[Anchor] = ()) -> Verdict:
    """Read all of it.

    Raises:
        InputError: it cannot be read.
    """
    verdict, wanted = Verdict(), sorted(anchors)
    hashes: dict[int, str] = {}
    asked = {anchor.n for anchor in wanted}
    cuts: list[tuple[int, str, str]] = []
    fragment: tuple[str, bytes] | None = None
    begun = ""
    for place, raw in lines(folder):
        try:
            line = read_line(raw)
        except InputError:
            _broken(verdict, fragment)
            fragment = place, raw
            continue
        if line.said.get("act") == TORN and fragment and line.said.get("what") == torn(fragment[1]):
            verdict.notes.append(f"{fragment[0]}: a line that a kill cut off, closed by {line.n}")
            fragment = None
        _broken(verdict, fragment)
        fragment = None
        if not line.sound:
            verdict.wrong.append(f"line {line.n} ({place}) was changed: its hash does not fit it")
        if not verdict.first:
            verdict.first, begun = line.n, line.prev
        else:
            _joined(verdict, line, place)
        verdict.head = Head(line.n, line.hash)
        if line.n in asked:
            hashes[line.n] = line.hash
        if line.said.get("act") == CUT and (said := _CUT.fullmatch(str(line.said.get("what")))):
            cuts.append((int(said[1]), said[2], str(line.said.get("at"))))
    if fragment and fragment[0].endswith("without its end"):
        verdict.notes.append(f"{fragment[0]}: a line that a kill cut off, or that is being written")
    else:
        _broken(verdict, fragment)
    _beginning(verdict, begun, cuts)
    _outside(verdict, wanted, hashes)
    return verdict


def too_early(
    anchors: Iterable[Anchor], folder: Path, keep_d: float, max_bytes: int
) -> tuple[list[str], list[str]]:
    """Cuts of lines that were younger than they had to be, by when heads of them left.

    Those that ``audit.max_mb`` explains, and one that nothing does: whoever may append a line may
    append a cut, and take away what is before it. When it was is not believed to the line alone.
    """
    known, keep_ns = sorted(anchors), keep_d * DAY_NS - _EARLY_NS
    full, first, size = max_bytes - 3 * SEGMENT_BYTES, 0, 0
    explained, others = list[str](), list[str]()
    for place, raw in lines(folder):
        size += len(raw) + 1
        try:
            line = read_line(raw)
        except InputError:
            continue
        first = first or line.n
        said = _CUT.fullmatch(str(line.said.get("what"))) if line.said.get("act") == CUT else None
        young = [a for a in known if a.n <= int(said[1])] if said else []
        if said is None or not young:
            continue
        after = [a.at_ns for a in known if a.n >= line.n][:1]
        at_ns = min(time_ns(line.said.get("at")), time.time_ns(), *after)
        if at_ns - young[-1].at_ns >= keep_ns:
            continue
        # Of an earlier cut it is not known any more how much there was.
        by_size = int(said[1]) != first - 1 or size >= full
        (explained if by_size else others).append(
            f"line {line.n} ({place}): lines through {said[1]} were cut, and {young[-1].n} was new "
            f"at {young[-1].at}: sooner than audit.keep_d, "
            + ("for audit.max_mb" if by_size else "and there were fewer than audit.max_mb")
        )
    return explained, others


def _broken(verdict: Verdict, fragment: tuple[str, bytes] | None) -> None:
    if fragment is not None:
        verdict.wrong.append(f"{fragment[0]} is no line of an audit log")


def _joined(verdict: Verdict, line: Line, place: str) -> None:
    n, own = verdict.head
    if line.n == n + 1:
        if line.prev != own:
            verdict.wrong.append(
                f"line {n} was exchanged: line {line.n} ({place}) continues another one"
            )
    elif line.n > n + 1:
        which = f"line {n + 1} is" if line.n == n + 2 else f"lines {n + 1} to {line.n - 1} are"
        verdict.wrong.append(f"{which} missing before {place}")
    else:
        verdict.wrong.append(f"line {line.n} ({place}) stands after line {n}")


def _beginning(verdict: Verdict, prev: str, cuts: list[tuple[int, str, str]]) -> None:
    n = verdict.first
    if n == 1 and prev == FIRST:
        return
    through, own = n - 1, prev
    for cut, hashed, at in cuts:
        if (cut, hashed) == (through, own):
            verdict.notes.append(f"lines 1 to {through} were let go of by retention at {at}")
            return
    verdict.wrong.append(
        f"lines 1 to {through} are missing, and no line says that retention took them"
        if n > 1
        else "line 1 is not the first: it continues another one"
    )


def _outside(verdict: Verdict, anchors: list[Anchor], hashes: dict[int, str]) -> None:
    good, wrong = 0, False
    for anchor in anchors:
        if anchor.n < verdict.first or anchor.n == 0:
            continue
        verdict.anchors += 1
        if anchor.n > verdict.head.n:
            last = anchors[-1]
            which = f"lines {verdict.head.n + 1} to {last.n} were"
            if last.n == verdict.head.n + 1:
                which = f"line {last.n} was"
            verdict.wrong.append(
                f"{which} cut off the end: the head at {last.at} was line {last.n}"
            )
            return
        if hashes.get(anchor.n) == anchor.hash:
            good = anchor.n
        elif not wrong:
            wrong = True
            verdict.wrong.append(
                f"a line between {good + 1} and {anchor.n} was changed, and all after it written "
                f"anew: line {anchor.n} is not the head that left at {anchor.at}"
            )
