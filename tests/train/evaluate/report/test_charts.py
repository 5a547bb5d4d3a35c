import re
from collections.abc import Callable

import pytest

from skyreid.train.evaluate.protocols import Report
from skyreid.train.evaluate.report import charts


def test_a_curve_goes_through_every_rank_where_the_axes_say(
    make_report: Callable[..., Report],
) -> None:
    report = make_report()
    drawn = charts.curves(report.outcomes)
    ticks = {
        int(label): float(x)
        for x, label in re.findall(r'middle" x="([\d.]+)" y="\d+">(\d+)</text>', drawn)
    }
    levels = {
        int(label): float(y) - 4
        for y, label in re.findall(r'tick end" x="\d+" y="([\d.]+)">(\d+)</text>', drawn)
    }
    lines = re.findall(r'<polyline class="c(\d)" points="([^"]+)"', drawn)
    assert [int(number) for number, _ in lines] == list(range(6))
    low, high = min(levels), max(levels)
    assert high == 100
    for (_, points), outcome in zip(lines, report.outcomes, strict=True):
        pairs = [tuple(map(float, pair.split(","))) for pair in points.split()]
        assert len(pairs) == 50
        for rank in (1, 2, 5, 10, 50):
            x, y = pairs[rank - 1]
            assert x == pytest.approx(ticks[rank], abs=0.11)
            percent = high - (y - levels[high]) * (high - low) / (levels[low] - levels[high])
            assert percent == pytest.approx(100 * float(outcome.whole.score.cmc[rank - 1]), abs=0.1)


def test_the_legend_has_the_best_first(make_report: Callable[..., Report]) -> None:
    report = make_report()
    said = re.findall(r"<b>([^<]+)</b> ([\d.]+)", charts.legend(report.outcomes))
    shares = [float(share) for _, share in said]
    assert shares == sorted(shares, reverse=True)
    assert {name for name, _ in said} == {"ALL", "A-A", "G-G", "A&lt;-&gt;G", "A-&gt;G", "G-&gt;A"}


def test_a_whisker_marks_the_value_and_its_interval() -> None:
    drawn = charts.whisker(0.5, (0.25, 0.875))
    assert 'd="M25.0 6H87.5"' in drawn
    assert 'd="M50.0 1V11"' in drawn
    assert "25.0 to 87.5 percent" in drawn
