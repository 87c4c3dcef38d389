"""Line charts as inline SVG, coloured by the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ldmlab.apps.report.elements import Markup, element

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 28  # room for the axes' numbers
COLOURS = 6  # that the style knows
_MOST_POINTS = 600
_LOG_FROM = 30  # ratio of the largest to the smallest positive value

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A named line.

    Attributes:
        name: For the legend.
        points: Pairs of x, finite and rising, and y; a y that is not finite leaves a gap.
    """

    name: str
    points: Sequence[Point]


def line_chart(title: str, series: Sequence[Series], unit: str = "step") -> Markup:
    """A figure with its lines and a legend; the y axis is logarithmic where values span decades.

    Args:
        title: What is drawn.
        series: At least one, with a finite value among them.
        unit: What x counts.
    """
    thinned = [Series(s.name, thin(s.points)) for s in series]
    finite = [p for s in thinned for p in s.points if math.isfinite(p[1])]
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    log = low > 0 and high / low > _LOG_FROM
    across = _Axis(min(x for x, _ in finite), max(x for x, _ in finite), LEFT, WIDTH - RIGHT)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    lines = [
        line for k, one in enumerate(thinned) for line in _lines(one.points, across, up, _class(k))
    ]
    drawing = element(
        "svg", *_grid(across, up), *lines,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
    )  # fmt: skip
    names = [element("span", s.name, class_=f"key {_class(k)}") for k, s in enumerate(series)]
    before, after = (sum(len(s.points) for s in kind) for kind in (series, thinned))
    notes = [f"by {unit}", *(["logarithmic"] if log else [])]
    if after < before:
        notes.append(f"{after:,} of {before:,} points, least and most of each stretch")
    caption = element("figcaption", element("b", title), f" ({'; '.join(notes)}) ", *names)
    return element("figure", caption, drawing, class_="chart")


def thin(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most so many points: the least and the most of each stretch, and one gap where it has any.

    Args:
        points: In their order.
        most: How many are kept; each stretch may add one for a gap.
    """
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        finite = [k for k in stretch if math.isfinite(points[k][1])]
        gaps = [k for k in stretch if not math.isfinite(points[k][1])][:1]
        ends = {f(finite, key=lambda k: points[k][1]) for f in (min, max)} if finite else set()
        kept += [points[k] for k in sorted({*ends, *gaps})]
    return kept


@dataclass(frozen=True)
class _Axis:
    """A map from values to places in the drawing.

    Attributes:
        low: Least value.
        high: Largest value.
        start: Place of the least.
        end: Place of the largest.
        log: Whether equal ratios are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._scale(v) for v in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[float]:
        """Round values inside the axis."""
        if self.low == self.high:
            return [self.low]
        if self.log:
            decades = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**k for k in decades]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (m * step) <= 5)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _class(number: int) -> str:
    return f"c{number % COLOURS}"


def _lines(points: Sequence[Point], across: _Axis, up: _Axis, colour: str) -> Iterator[Markup]:
    """A line for each run of finite values; a single value is a dot."""
    run: list[str] = []
    for x, y in [*points, (0.0, math.nan)]:
        if math.isfinite(y):
            run.append(f"{across(x)},{up(y)}")
            continue
        if len(run) == 1:
            cx, cy = run[0].split(",")
            yield element("circle", cx=cx, cy=cy, r=2.5, class_=f"dot {colour}")
        elif run:
            yield element("polyline", points=" ".join(run), class_=f"line {colour}")
        run = []


def _grid(across: _Axis, up: _Axis) -> Iterator[Markup]:
    for value in up.ticks():
        y = up(value)
        yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield element("text", _number(value), x=LEFT - 5, y=y + 4, text_anchor="end")
    for value in across.ticks():
        yield element("text", _number(value), x=across(value), y=HEIGHT - 8, text_anchor="middle")


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"
