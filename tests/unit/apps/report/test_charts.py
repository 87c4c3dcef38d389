"""Charts: the lines are where the numbers say, and gaps stay gaps."""

from __future__ import annotations

import math
import re

import pytest

from ldmlab.apps.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    line_chart,
    thin,
)


def _lines(chart: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline points="([^"]*)"', chart)
    return [[tuple(map(float, p.split(","))) for p in text.split()] for text in found]  # type: ignore[misc]


def test_line_goes_from_corner_to_corner() -> None:
    (line,) = _lines(line_chart("loss", [Series("a", [(0, 0.0), (50, 5.0), (100, 10.0)])]))
    middle = ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)
    assert line == [(LEFT, HEIGHT - BOTTOM), middle, (WIDTH - RIGHT, TOP)]


def test_decades_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    chart = line_chart("loss", [Series("a", [(0, 1.0), (1, 10.0), (2, 100.0)])])
    ((_, first), (_, second), (_, third)) = _lines(chart)[0]
    assert first - second == pytest.approx(second - third, abs=0.02)
    assert "logarithmic" in chart
    assert "logarithmic" not in line_chart("x", [Series("a", [(0, 0.0), (1, 10.0), (2, 100.0)])])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_leaves_a_gap(value: float) -> None:
    points = [(0, 1.0), (1, 2.0), (2, value), (3, 2.0), (4, 1.0), (5, value), (6, 1.5)]
    chart = line_chart("loss", [Series("a", points)])
    assert [len(line) for line in _lines(chart)] == [2, 2]
    assert chart.count("<circle") == 1
    assert "nan" not in chart
    assert "inf" not in chart


def test_series_share_their_axes_and_one_value_is_drawn_in_the_middle() -> None:
    low, high = _lines(
        line_chart("t", [Series("a", [(0, 0.0), (1, 0.0)]), Series("b", [(0, 1.0), (1, 1.0)])])
    )
    assert [y for _, y in low + high] == [HEIGHT - BOTTOM] * 2 + [TOP] * 2
    constant = _lines(line_chart("t", [Series("a", [(0, 3.0), (1, 3.0)])]))[0]
    assert {y for _, y in constant} == {(TOP + HEIGHT - BOTTOM) / 2}


def test_long_series_keep_their_extremes_and_gaps() -> None:
    points = [(float(k), math.sin(k)) for k in range(50_000)]
    points[31_234] = (31_234.0, 50.0)
    points[777] = (777.0, math.nan)
    kept = thin(points)
    assert len(kept) <= 602
    assert points[31_234] in kept
    assert any(math.isnan(y) for _, y in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert f"{len(kept):,} of 50,000 points" in line_chart("t", [Series("a", points)])
