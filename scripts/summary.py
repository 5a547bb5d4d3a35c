"""What a run over videos without truth found: people, links, and what nobody can know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any
from urllib.parse import quote

from chain import Chain, ChainError
from settings_files import DETECTOR
from videos import Video

ASKED = 500
"""Identities of one page of the server's list."""
SHOWN = 20


def summarise(chain: Chain, window_s: float = 600.0) -> dict[str, Any]:
    """Ask the server what it concluded.

    Raises:
        ChainError: it does not answer.
    """
    found = identities(chain)
    tracklets = [t for identity in found for t in identity["tracklets"]]
    links = [
        {"identity": i["id"], "camera": t["camera"], "state": t["match"]["state"],
         "other": t["match"]["with"]["camera"], "probability": t["match"]["probability"],
         "evidence": t["match"]["evidence"]}
        for i in found for t in i["tracklets"]
        if t["match"] and t["match"]["with"]["camera"] != t["camera"]
    ]  # fmt: skip
    links.sort(key=lambda link: -link["probability"])
    return {
        "identities": len(found),
        "tracklets": {
            video.camera: sum(t["camera"] == video.camera for t in tracklets)
            for video in chain.videos
        },
        "links": links,
        "unknown": unknown(chain, window_s),
    }


def identities(chain: Chain) -> list[dict[str, Any]]:
    """Everybody, page by page.

    Raises:
        ChainError: the server does not answer.
    """
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/v1/identities?limit={ASKED}" + (f"&cursor={quote(cursor)}" if cursor else "")
        answer = chain.get(path, timeout_s=30.0)
        if answer is None:
            raise ChainError("the server does not say whom it found")
        found += answer["identities"]
        cursor = answer["next"]
    return found


def unknown(chain: Chain, window_s: float) -> list[str]:
    """What these videos cannot tell anybody, one line each."""
    lines = [line for pair in combinations(chain.videos, 2) for line in _of_pair(*pair, window_s)]
    blind = [v.camera for v in chain.videos if not v.posed and chain.poses is None]
    if blind:
        lines.append(f"where people stand: no pose of {', '.join(blind)} is known (--site)")
    lines.append("which of these links are right: there is no truth for these videos")
    if chain.detector == DETECTOR:
        lines.append(
            "who was not found: the shipped detector learnt from rendered people and misses most "
            "real ones (--detector)"
        )
    return lines


def _of_pair(a: Video, b: Video, window_s: float) -> list[str]:
    pair = f"{a.camera} and {b.camera}"
    undated = [v.camera for v in (a, b) if not v.dated]
    if undated:
        return [
            f"time and place between {pair}: nobody said when {' and '.join(undated)} began "
            "(@START), so only looks are compared, and looks alone never make a sure link"
        ]
    if a.start_ns is None or b.start_ns is None:
        return []
    first, last = sorted((a, b), key=lambda v: v.start_ns or 0)
    apart_s = (last.start_ns or 0) / 1e9 - (first.start_ns or 0) / 1e9 - (first.length_s or 0.0)
    if apart_s <= window_s:
        return []
    said = " (their files say so; an edited file has a wrong date: @unknown compares looks)"
    said = said if "container" in (a.start_of, b.start_of) else ""
    return [
        f"anything between {pair}: {_span(apart_s)} lie between them, and the matcher looks back "
        f"{window_s:g} s (matching.window_s){said}"
    ]


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def as_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    links: Sequence[dict[str, Any]] = summary["links"]
    sure = sum(link["state"] == "accepted" for link in links)
    each = ", ".join(f"{camera} {count}" for camera, count in summary["tracklets"].items())
    lines = [
        f"people             {summary['identities']} identities of tracklets: {each}",
        f"links across videos  {sure} sure, {len(links) - sure} not sure",
    ]
    for link in links[:SHOWN]:
        word = "sure    " if link["state"] == "accepted" else "not sure"
        looks = next(e["similarity"] for e in link["evidence"] if e["kind"] == "appearance")
        kinds = [e["kind"] for e in link["evidence"] if e["kind"] in ("place", "time")]
        lines.append(
            f"  {word} {min(link['probability'], 0.99):.2f}  {link['identity']}  {link['other']} - "
            f"{link['camera']}  looks {looks:.2f}, {kinds[0] if kinds else 'nothing'} besides"
        )
    if len(links) > SHOWN:
        lines.append(f"  and {len(links) - SHOWN} more")
    lines.append("could not be known")
    lines += [f"  {line}" for line in summary["unknown"]]
    return "\n".join(lines) + "\n"
