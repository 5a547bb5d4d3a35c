"""Outcomes as one JSON object and as tables for a terminal, in percent as the papers print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skyreid.contract.errors import GateError
from skyreid.train.evaluate.bootstrap import Difference, Estimate, Interval
from skyreid.train.evaluate.breakdown import Outcome
from skyreid.train.evaluate.metrics import MEANS, RANKS, percent

WITH_INTERVAL = ("rank1", "mAP")
UNDEFINED = "undefined: no query counts"


def require_queries(outcomes: Sequence[Outcome]) -> None:
    """Let nobody take a table without a number for one.

    Raises:
        GateError: when no query of any protocol counts.
    """
    if not any(outcome.whole.score.queries for outcome in outcomes):
        raise GateError(
            "no query counts under any protocol: none has a right picture in the gallery that is "
            "not of its own camera; look at the people and cameras of query and gallery"
        )


def as_json(
    outcomes: Sequence[Outcome], gained: Mapping[str, Difference] | None = None
) -> dict[str, dict[str, Any]]:
    """JSON-ready: protocol to what `Score.as_json` has.

    Beside that `people`, whom the valid queries show, and `rank1_interval` and `mAP_interval`,
    [low, high] of the 95 % interval. Where they exist: `without_query_camera`, the same object, and
    `by_camera` or `by_altitude`, and `by_cue`, such objects by the part's name. With `gained`,
    `against`: `rank1` and `mAP` minus those of another model, and the intervals of that. Where no
    query counts, numbers and intervals are None.
    """
    rows = {outcome.trial.name: _row(outcome) for outcome in outcomes}
    for name, gain in (gained or {}).items():
        rows[name]["against"] = _gain(gain)
    return rows


def _row(outcome: Outcome) -> dict[str, Any]:
    row = figures(outcome.whole)
    if outcome.without_camera is not None:
        row["without_query_camera"] = figures(outcome.without_camera)
    for kind, parts in outcome.parts.items():
        row[f"by_{kind}"] = {name: figures(part) for name, part in parts.items()}
    return row


def figures(estimate: Estimate) -> dict[str, Any]:
    """The numbers of one estimate, in percent."""
    return {
        **estimate.score.as_json(),
        "people": estimate.people,
        "rank1_interval": _ends(estimate.rank1),
        "mAP_interval": _ends(estimate.average_precision),
    }


def _ends(interval: Interval) -> list[float] | None:
    """An interval in percent; None where it is undefined."""
    low, high = map(percent, interval)
    return None if low is None or high is None else [low, high]


def _gain(gain: Difference) -> dict[str, Any]:
    """A difference, in points."""
    return {
        "rank1": percent(gain.rank1),
        "rank1_interval": _ends(gain.rank1_interval),
        "mAP": percent(gain.average_precision),
        "mAP_interval": _ends(gain.average_precision_interval),
    }


def difference_table(gained: Mapping[str, Difference]) -> str:
    """A line a protocol: points above the other model; none where the interval holds 0."""
    width = max([20, *(len(name) for name in gained)])
    lines = [f"{'points above other':<{width}} {'R1':>6} {'95 %':>15} {'mAP':>6} {'95 %':>15}"]
    for name, gain in gained.items():
        row, cells = _gain(gain), []
        if not gain.queries:
            lines.append(f"{name:<{width}} {UNDEFINED}")
            continue
        for key in ("rank1", "mAP"):
            low, high = row[f"{key}_interval"]
            cells.append(f"{row[key]:+6.1f} {low:+6.1f} - {high:+6.1f}")
        lines.append(f"{name:<{width}} {' '.join(cells)}")
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """A line a protocol with valid queries and people, then the parts, each with intervals."""
    width = max([8, *(len(outcome.trial.name) for outcome in outcomes)])
    columns = {**{f"rank{rank}": f"R{rank}" for rank in RANKS}, **{name: name for name in MEANS}}
    head = " ".join(f"{title:>6}" + _beside(key, f"{'95 %':>13}") for key, title in columns.items())
    lines = [f"{'percent':<{width}} {head} {'people':>7} {'n':>6}"]
    for outcome in outcomes:
        row = figures(outcome.whole)
        if not row["queries"]:
            lines.append(f"{outcome.trial.name:<{width}} {UNDEFINED}")
            continue
        cells = " ".join(
            f"{row[key]:6.1f}" + _beside(key, _span(row.get(f"{key}_interval", (0, 0))))
            for key in columns
        )
        lines.append(
            f"{outcome.trial.name:<{width}} {cells} {row['people']:7d} {row['queries']:6d}"
        )
    apart = {o.trial.name: o.without_camera for o in outcomes if o.without_camera is not None}
    if apart:
        lines += _side_by_side("query camera left out", {"": apart}, intervals=True)
    for kind in dict.fromkeys(kind for outcome in outcomes for kind in outcome.parts):
        parts = {o.trial.name: o.parts[kind] for o in outcomes if kind in o.parts}
        lines += _side_by_side(f"by {kind}", parts, intervals=kind != "cue")
    return "\n".join(lines)


def _side_by_side(
    title: str, columns: Mapping[str, Mapping[str, Estimate]], *, intervals: bool
) -> list[str]:
    """Parts as rows, protocols as groups of columns."""
    names = list(dict.fromkeys(name for parts in columns.values() for name in parts))
    width = max(len(title), *(len(name) for name in names))
    span = f" {'95 %':>13}" if intervals else ""
    head = f"{'R1':>6}{span} {'mAP':>6}{span} {'n':>6}"
    lines = [""]
    if any(columns):
        over = "   ".join(f"{protocol:<{len(head)}}" for protocol in columns)
        lines.append(f"{'':<{width}}   {over}".rstrip())
    lines.append(f"{title:<{width}} {'   '.join([head] * len(columns))}")
    for name in names:
        cells = []
        for parts in columns.values():
            if name not in parts:
                cells.append(" " * len(head))
                continue
            row = figures(parts[name])
            if not row["queries"]:
                cells.append(f"{UNDEFINED:<{len(head)}}")
                continue
            r1, ap = (
                f" {_span(row[f'{k}_interval'])}" if intervals else "" for k in ("rank1", "mAP")
            )
            cells.append(f"{row['rank1']:6.1f}{r1} {row['mAP']:6.1f}{ap} {row['queries']:6d}")
        lines.append(f"{name:<{width}} {'   '.join(cells)}".rstrip())
    return lines


def _beside(key: str, text: str) -> str:
    """What stands beside a number that has an interval; nothing beside others."""
    return f" {text}" if key in WITH_INTERVAL else ""


def _span(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{low:5.1f} - {high:5.1f}"
