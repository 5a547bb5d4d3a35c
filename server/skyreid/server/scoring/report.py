"""What the chain concluded beside the truth: its numbers, as one JSON object and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skyreid.server.scoring import confidence
from skyreid.server.scoring.confidence import Calibration, Confidence
from skyreid.server.scoring.metrics import CrossView, DetectorScore, TrackingScore


@dataclass(frozen=True, eq=False)
class Report:
    """The report; ``as_json`` and ``as_table`` are its two forms.

    ``missing`` counts recorded sightings that the journal does not have. ``unfinished`` names
    cameras whose run was killed; their truth counts in full all the same. ``told`` is about what
    was said while it happened, ``held`` about what is believed in the end; ``fpir`` is what the
    server was configured to.
    """

    sightings: int
    missing: int
    identities: int
    tracklets: int
    cross_view: CrossView
    told: Confidence
    held: Confidence
    fpir: float
    final: TrackingScore
    live: TrackingScore
    detector: Mapping[str, DetectorScore]
    dropped: Mapping[str, int]
    not_run: tuple[str, ...]
    unfinished: tuple[str, ...]


def as_json(report: Report) -> dict[str, Any]:
    """The report as the plain object that ``--json`` prints; fractions from 0 to 1."""
    cross = report.cross_view
    return {
        "sightings": report.sightings,
        "sightings_missing": report.missing,
        "identities": report.identities,
        "tracklets": report.tracklets,
        "cross_view": {
            "pairs": cross.pairs,
            "right": cross.right,
            "possible": cross.possible,
            "precision": _rounded(cross.precision),
            "recall": _rounded(cross.recall),
        },
        "confidence": {
            "told": confidence.as_json(report.told),
            "final": confidence.as_json(report.held),
        },
        "open_set": {
            "configured": report.fpir,
            **confidence.open_set_json(report.held.open_set),
            "told": confidence.open_set_json(report.told.open_set),
        },
        "idf1": _rounded(report.final.idf1),
        "idf1_live": _rounded(report.live.idf1),
        "hota": _rounded(report.final.hota),
        "assa": _rounded(report.final.assa),
        "detector": {
            camera: {"recall": _rounded(score.recall), "precision": _rounded(score.precision)}
            for camera, score in report.detector.items()
        },
        "dropped": dict(report.dropped),
        "cameras_not_run": list(report.not_run),
        "cameras_unfinished": list(report.unfinished),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def as_table(report: Report) -> str:
    """The report for a person."""
    cross = report.cross_view
    lines = [
        "Against the truth of the clip",
        "",
        f"  {'one person in both views':<29}precision {_percent(cross.precision)}"
        f"   recall {_percent(cross.recall)}"
        f"   ({cross.right} of {cross.pairs} pairs right, {cross.possible} possible)",
        f"  {'all cameras, at the end':<29}IDF1 {_percent(report.final.idf1)}"
        f"   HOTA {_percent(report.final.hota)}   AssA {_percent(report.final.assa)}",
        f"  {'all cameras, as it happened':<29}IDF1 {_percent(report.live.idf1)}"
        f"   HOTA {_percent(report.live.hota)}   AssA {_percent(report.live.assa)}",
        "",
        *_open_set_lines(report),
        "",
        *_confidence_lines(report),
        "",
        "  detector  recall  precision",
    ]
    for camera, score in report.detector.items():
        lines.append(f"  {camera:<9} {_percent(score.recall)}     {_percent(score.precision)}")
    stored = f"{report.sightings} sightings in the journal"
    lines += [
        "",
        f"  {stored}, {report.missing} missing; {report.tracklets} tracklets, "
        f"{report.identities} identities",
        "  left out: " + (", ".join(f"{k} {v}" for k, v in report.dropped.items()) or "nothing"),
    ]
    if report.not_run:
        lines.append(f"  not run, so not counted: {', '.join(report.not_run)}")
    if report.unfinished:
        lines.append(f"  run did not end by itself: {', '.join(report.unfinished)}")
    return "\n".join(lines) + "\n"


def _open_set_lines(report: Report) -> list[str]:
    lines = [f"  strangers taken for somebody, configured {_percent(report.fpir).strip()}"]
    for title, found in (("at the end", report.held), ("as it happened", report.told)):
        rates = found.open_set
        lines.append(
            f"    {title:<16}FPIR {_percent(rates.fpir)} of {rates.first} seen first"
            f"   FNIR {_percent(rates.fnir)} of {rates.again} seen again"
        )
    return lines


def _confidence_lines(report: Report) -> list[str]:
    """Bins that hold a link, as told and at the end, and those between the views beside them."""
    columns = (
        ("told", report.told.whole),
        ("told, cross-view", report.told.across),
        ("at the end", report.held.whole),
        ("cross-view", report.held.across),
    )
    lines = ["  links said to be right, and n: " + ", ".join(title for title, _ in columns)]
    for row in zip(*(found.bins for _, found in columns), strict=True):
        if any(b.n for b in row):
            cells = "  ".join(f"{_percent(b.right)} {b.n:>5}" for b in row)
            lines.append(f"    {row[0].low:5.3f} to {row[0].high:5.3f}  {cells}")
    errors = "        ".join(_error(found) for _, found in columns)
    lines.append(f"    calibration error {errors}".rstrip())
    return lines


def _error(found: Calibration) -> str:
    return "   – " if found.ece is None else f"{found.ece:5.3f}"


def _percent(value: float | None) -> str:
    return "   –  " if value is None else f"{100 * value:5.1f}%"
