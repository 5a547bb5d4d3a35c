"""The page: what was measured, on what, and what it looks like. Plain HTML, nothing loaded."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from skyreid.train.data.records import Record
from skyreid.train.evaluate.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from skyreid.train.evaluate.breakdown import Outcome
from skyreid.train.evaluate.metrics import MEANS
from skyreid.train.evaluate.protocols import Report, refusals, warnings
from skyreid.train.evaluate.report import charts, ranklists
from skyreid.train.evaluate.report.ranklists import Hit, RankList

MARK = '<meta name="generator" content="skyreid-train evaluate">'
"""By which a report is known that may be written over."""

PICTURES = "pictures"

_MEANING = {
    "ALL": "every query in the whole gallery",
    "A-A": "aerial queries in the aerial gallery",
    "G-G": "ground queries in the ground gallery",
    "A<->G": "every query in the whole gallery; of its person only the other view counts",
    "A->G": "aerial queries in the ground gallery",
    "G->A": "ground queries in the aerial gallery",
}


def page(
    report: Report,
    command: str,
    lists: Sequence[tuple[Outcome, Sequence[RankList], Sequence[RankList]]],
) -> str:
    """All of it.

    Args:
        report: what was measured.
        command: that gives the same numbers again.
        lists: for protocols whose rank lists are shown: a sample, and the hardest failures.
    """
    body = [
        _header(report, command),
        _protocols(report.outcomes),
        _against(report),
        _curves(report.outcomes),
        _camera_left_out(report.outcomes),
        *_parts(report.outcomes),
        *_rank_lists(report, lists),
    ]
    style = files("skyreid.train.evaluate.report").joinpath("style.css").read_text()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src 'self' file:; style-src 'unsafe-inline'\">"
        f"{MARK}<title>skyreid evaluation: {_text(report.data.title)}</title>"
        f"<style>{style}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    """Escaped for text and for attributes."""
    return html.escape(str(value))


def _header(report: Report, command: str) -> str:
    facts: list[tuple[str, str]] = [
        ("model", f"<code>{_text(path)}</code><br>{_text(what)}")
        for path, what in report.model.items()
    ]
    facts += [
        ("against", f"<code>{_text(path)}</code><br>{_text(what)}")
        for path, what in report.against.items()
    ]
    cameras = len({r.camera for r in report.records})
    facts += [
        ("data", f"{_text(report.data.title)} in <code>{_text(report.data.root)}</code>"),
        (
            "pictures",
            f"{report.query.size} queries and {report.gallery.size} in the gallery, of "
            f"{report.people} people in {cameras} cameras",
        ),
    ]
    facts += [("warning", _text(line)) for line in warnings(report)]
    facts += [("left out", _text(line)) for line in refusals(report)]
    facts += [
        ("command", f"<code>{_text(command)}</code>"),
        ("numbers", '<a href="metrics.json">metrics.json</a>'),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<h1>Evaluation on {_text(report.data.title)}</h1><dl class="facts">{rows}</dl>'


def _protocols(outcomes: Sequence[Outcome]) -> str:
    rows, others = [], [name for name in MEANS if name != "mAP"]  # which stands with its interval
    for outcome in outcomes:
        whole, name = outcome.whole, outcome.trial.name
        meaning = f"<small>{_MEANING[name]}</small>" if name in _MEANING else ""
        cmc = whole.score.cmc
        rows.append(
            f"<tr><th scope='row'><b>{_text(name)}</b>{meaning}</th>{_both(whole)}"
            f"{_cell(float(cmc[4]))}{_cell(float(cmc[9]))}"
            + "".join(_cell(whole.score.means[mean]) for mean in others)
            + f"<td>{whole.people}</td><td>{whole.score.queries}</td></tr>"
        )
    return _section(
        "Protocols",
        f"Percent. Intervals hold {100 * CONFIDENCE:.0f} % of {RESAMPLES} draws of the people with "
        "replacement, each with all of his queries: what other people would change, not another "
        "training or other cameras. A query without a right picture in the gallery does not count.",
        _table(["protocol", *_BOTH_HEADS, "R5", "R10", *others, "people", "queries"], rows),
    )


def _against(report: Report) -> str:
    if not report.gained:
        return ""
    rows = [
        f"<tr><th scope='row'><b>{_text(name)}</b></th>"
        f"{_points(gain.rank1, gain.rank1_interval)}"
        f"{_points(gain.average_precision, gain.average_precision_interval)}</tr>"
        for name, gain in report.gained.items()
    ]
    other = ", ".join(f"<code>{_text(path)}</code>" for path in report.against)
    return _section(
        "Against another model",
        f"Points above {other}, over the same draws of people. Where the interval holds 0, these "
        "people do not tell which of the two is better.",
        _table(["protocol", "R1", "mAP"], rows),
    )


def _cell(share: float) -> str:
    return "<td>undefined</td>" if math.isnan(share) else f"<td>{100 * share:.1f}</td>"


def _points(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(value):
        return _cell(value)
    low, high = interval
    return (
        f"<td><b>{100 * value:+.1f}</b>"
        f"<span class='of'>{100 * low:+.1f} to {100 * high:+.1f}</span></td>"
    )


def _curves(outcomes: Sequence[Outcome]) -> str:
    return _section(
        "Cumulative match",
        "Share of queries with a right picture among the first so many.",
        charts.curves(outcomes) + charts.legend(outcomes),
    )


def _camera_left_out(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for outcome in outcomes:
        if outcome.without_camera is None or not outcome.without_camera.score.queries:
            continue
        gain = 100 * (outcome.without_camera.score.rank1 - outcome.whole.score.rank1)
        rows.append(
            f"<tr><th scope='row'><b>{_text(outcome.trial.name)}</b></th>"
            f"<td>{100 * outcome.whole.score.rank1:.1f}</td>{_both(outcome.without_camera)}"
            f"<td>{gain:+.1f}</td><td>{outcome.without_camera.score.queries}</td></tr>"
        )
    if not rows:
        return ""
    return _section(
        "With the query's camera left out",
        "The rules remove the query's person from its own camera, but strangers whom the same "
        "camera took stay, and look alike by the camera's light and angle alone. Here they are out "
        "as well. A large gain says that the model knows cameras by sight.",
        _table(["protocol", "R1 with", *_BOTH_HEADS, "R1 gain", "queries"], rows),
    )


_TITLES = {
    "camera": (
        "By aerial camera",
        "From the air: queries of that camera only. To the air: a gallery of that camera only, "
        "which is smaller, so the numbers of the two directions do not compare.",
    ),
    "altitude": (
        "By altitude",
        "From the air: queries from that height only. To the air: a gallery from that height only, "
        "which is smaller, so the numbers of the two directions do not compare.",
    ),
    "cue": (
        "By cue",
        "Queries of people who differ from the first of their family of look-alikes in that cue. "
        "Across views only what shows from both can decide; a person has several cues, so the rows "
        "overlap.",
    ),
}


def _parts(outcomes: Sequence[Outcome]) -> Iterable[str]:
    for kind, (title, words) in _TITLES.items():
        tables = [
            f"<div><h3>{_text(outcome.trial.name)}</h3>"
            f"{_part_table(kind, outcome.parts[kind])}</div>"
            for outcome in outcomes
            if kind in outcome.parts
        ]
        if tables:
            yield _section(title, words, f'<div class="pair">{"".join(tables)}</div>')


def _part_table(kind: str, parts: Mapping[str, Estimate]) -> str:
    """A row a part; parts named "kind: name" stand below their kind."""
    rows = []
    heading = ""
    for name, part in parts.items():
        group, _, member = name.partition(": ")
        if member and group != heading and group not in parts:
            rows.append(
                f"<tr class='kind'><th scope='rowgroup' colspan='7'>{_text(group)}</th></tr>"
            )
        heading = group
        rank = "member" if member else "kind" if kind == "cue" else "place"
        rows.append(
            f"<tr class='{rank}'><th scope='row'>{_text(member or name)}</th>{_both(part)}"
            f"<td>{part.people}</td><td>{part.score.queries}</td></tr>"
        )
    return _table([kind, *_BOTH_HEADS, "people", "queries"], rows)


_BOTH_HEADS = ("R1, 95 %", "", "mAP, 95 %", "")


def _both(estimate: Estimate) -> str:
    score = estimate.score
    return _one(score.rank1, estimate.rank1) + _one(
        score.average_precision, estimate.average_precision
    )


def _one(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(value):
        return f"{_cell(value)}<td></td>"
    low, high = interval
    return (
        f"<td><b>{100 * value:.1f}</b><span class='of'>{100 * low:.1f}–{100 * high:.1f}</span></td>"
        f"<td class='whiskers'>{charts.whisker(value, interval)}</td>"
    )


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(
        f"<th scope='col'>{_text(head)}</th>" if head else "<td class='whiskers'></td>"
        for head in heads
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _section(title: str, words: str, content: str) -> str:
    return f"<section><h2>{title}</h2><p>{words}</p>{content}</section>"


def _rank_lists(
    report: Report, lists: Sequence[tuple[Outcome, Sequence[RankList], Sequence[RankList]]]
) -> Iterable[str]:
    for title, words, which in (
        (
            "Rank lists",
            "Queries drawn at random, the same for every model: the query, then the first "
            f"{ranklists.SHOWN} of the gallery. Right ones have a full green frame, wrong ones a "
            "dashed red one. Below stand the person and the camera, A aerial or G ground.",
            0,
        ),
        (
            "Hardest failures",
            "Queries whose first right picture comes last, the worst first, at most one a person. "
            "The last picture is that first right one.",
            1,
        ),
    ):
        blocks = [
            f"<h3>{_text(outcome.trial.name)}</h3>"
            f'<div class="lists">{"".join(_list(report, found) for found in several[which])}</div>'
            for outcome, *several in lists
            if several[which]
        ]
        if blocks:
            yield _section(title, words, "".join(blocks))


def _list(report: Report, found: RankList) -> str:
    query = int(report.query[found.query])
    record = report.records[query]
    figures = [_figure("query", query, record, "query", "query")]
    figures += [_hit(report, hit, "") for hit in found.hits]
    if found.first.rank > len(found.hits):
        figures.append(_hit(report, found.first, " later"))
    return f'<div class="list">{"".join(figures)}</div>'


def _hit(report: Report, hit: Hit, extra: str) -> str:
    picture = int(report.gallery[hit.picture])
    kind, sign = ("right", "✓") if hit.right else ("wrong", "✗")
    return _figure(
        kind + extra,
        picture,
        report.records[picture],
        f"{hit.rank} {sign}",
        f"rank {hit.rank}, {kind}",
    )


def _figure(kind: str, picture: int, record: Record, title: str, spoken: str) -> str:
    place = f"person {record.person}, camera {record.camera}"
    return (
        f'<figure class="{kind}"><div class="frame"><img src="{PICTURES}/{picture}.jpg" '
        f'alt="{_text(f"{spoken}: {place}")}"></div>'
        f"<figcaption><b>{title}</b><br>{_text(record.person)} · {record.view[0].upper()}"
        f"{record.camera}</figcaption></figure>"
    )
