"""Drawings in SVG: curves of the cumulative match, and an estimate with its interval."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from skyreid.train.evaluate.bootstrap import Interval
from skyreid.train.evaluate.breakdown import Outcome
from skyreid.train.evaluate.metrics import MAX_RANK

COLOURS = 8
"""Classes `c0` to `c7` of the page's style, each a colour and a dash."""

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44
_TICKS = (1, 2, 3, 5, 10, 20, 30, 50)


def curves(outcomes: Sequence[Outcome]) -> str:
    """CMC of every protocol over ranks 1 to 50 on a logarithmic axis, in percent."""
    drawn = [(number, o) for number, o in enumerate(outcomes) if o.whole.score.queries]
    if not drawn:
        return ""
    lowest = min(float(o.whole.score.cmc[0]) for _, o in drawn)
    floor = 10 * math.floor(10 * min(lowest, 0.9))

    def x(rank: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(rank) / math.log(MAX_RANK)

    def y(percent: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (100 - percent) / (100 - floor)

    names = ", ".join(html.escape(o.trial.name) for _, o in drawn)
    parts = [
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="cumulative match of {names}; the table has the numbers">'
    ]
    step = 10 if floor >= 40 else 20
    for percent in range(floor, 101, step):
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(percent):.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text class="tick end" x="{_LEFT - 8}" y="{y(percent) + 4:.1f}">{percent}</text>'
        )
    under = _HEIGHT - _BOTTOM
    for rank in _TICKS:
        parts.append(
            f'<path class="grid" d="M{x(rank):.1f} {_TOP}V{under}"/>'
            f'<text class="tick middle" x="{x(rank):.1f}" y="{under + 18}">{rank}</text>'
        )
    parts.append(
        f'<text class="tick middle" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}">'
        "rank (logarithmic)</text>"
        f'<text class="tick middle side" transform="translate(12 {(_TOP + under) / 2:.0f}) '
        'rotate(-90)">queries with a hit, %</text>'
    )
    for number, outcome in drawn:
        points = " ".join(
            f"{x(rank):.1f},{y(100 * float(share)):.1f}"
            for rank, share in enumerate(outcome.whole.score.cmc, start=1)
        )
        parts.append(f'<polyline class="c{number % COLOURS}" points="{points}"/>')
    return "".join(parts) + "</svg>"


def legend(outcomes: Sequence[Outcome]) -> str:
    """Which curve is which, the highest first."""
    drawn = [(number, o) for number, o in enumerate(outcomes) if o.whole.score.queries]
    drawn.sort(key=lambda pair: -pair[1].whole.score.rank1)
    items = "".join(
        f'<li><svg viewBox="0 0 34 8" aria-hidden="true"><path class="c{number % COLOURS}" '
        f'd="M1 4H33"/></svg><b>{html.escape(outcome.trial.name)}</b> '
        f"{100 * outcome.whole.score.rank1:.1f}</li>"
        for number, outcome in drawn
    )
    return f'<ul class="legend">{items}</ul>'


def whisker(value: float, interval: Interval) -> str:
    """A value with its interval on a line from 0 to 1; all three are fractions."""
    low, high = (100 * end for end in interval)
    return (
        '<svg class="whisker" viewBox="-2 0 104 12" role="img" '
        f'aria-label="{low:.1f} to {high:.1f} percent">'
        '<path class="track" d="M0 6H100M0 3V9M50 4V8M100 3V9"/>'
        f'<path class="span" d="M{low:.1f} 6H{high:.1f}"/>'
        f'<path class="value" d="M{100 * value:.1f} 1V11"/></svg>'
    )
