"""Charts as inline SVG, coloured by the page's own variables, so that they follow light and dark."""

import math
from html import escape
from itertools import pairwise

from oapseg.monitor.history import Column

WIDTH, HEIGHT = 340, 190  # of a learning curve, in user units
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22  # margins
MAX_POINTS = 160  # more are averaged: a line of 340 units shows no more

BAR_WIDTH, BAR_HEIGHT = 220, 22  # of an interval bar


def curves(title: str, series: dict[str, Column]) -> str:
    """One panel from zero up: a line a series over its own steps, in the colours of the page, one after another."""
    lines = {name: _thinned(column) for name, column in series.items() if column}
    points = [point for line in lines.values() for point in line] or [(0.0, 0.0)]
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    ticks = _ticks(min(0.0, *(value for _, value in points)), max(0.0, *(value for _, value in points)))
    x = _Scale(first, max(last, first + 1), (LEFT, WIDTH - RIGHT))
    y = _Scale(ticks[0], ticks[-1], (HEIGHT - BOTTOM, TOP))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over training steps">']
    parts += _rows_of_grid(ticks, y)
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 5}">{_short(first)}</text>')
    parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}">step {_short(last)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        path = " ".join(f"{x(step)},{y(value)}" for step, value in line)
        parts.append(f'<polyline class="line s{number}" points="{path}"><title>{escape(name)}</title></polyline>')
    return "".join([*parts, "</svg>"])


def interval_bars(marks: list[tuple[str, float, float | None, float | None]], top: float) -> str:
    """Values with their intervals on one axis from 0 to `top`: (class of colour, value, low, high), first one above."""
    x = _Scale(0.0, top, (4, BAR_WIDTH - 4))
    rows = len(marks)
    parts = [f'<svg class="bars" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" aria-hidden="true">']
    parts.append(f'<line class="grid" x1="4" x2="{BAR_WIDTH - 4}" y1="{BAR_HEIGHT / 2}" y2="{BAR_HEIGHT / 2}"/>')
    for row, (colour, value, low, high) in enumerate(marks):
        y = BAR_HEIGHT * (row + 1) / (rows + 1)
        if low is not None and high is not None:
            parts.append(f'<line class="whisker {colour}" x1="{x(low)}" x2="{x(high)}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot {colour}" cx="{x(value)}" cy="{y:.1f}" r="3.4"/>')
    return "".join([*parts, "</svg>"])


def precision_recall(title: str, lines: dict[str, list[float | None]]) -> str:
    """Precision in percent over recall, a line a maker of masks: its precision in [0, 1] at even recalls.

    Both axes end at round numbers just past the curves, which are far from 100 % for masks without supervision.
    """
    known = {maker: [value or 0.0 for value in line] for maker, line in lines.items() if any(line)}
    reached = max([last for line in known.values() for last, value in enumerate(line) if value] or [1])
    top = _ticks(0.0, 100 * max([max(line) for line in known.values()] or [1.0]))
    across = _ticks(0.0, 100 * reached / max([len(line) - 1 for line in known.values()] or [1]))
    x, y = _Scale(0.0, across[-1], (LEFT, WIDTH - RIGHT)), _Scale(0.0, top[-1], (HEIGHT - BOTTOM, TOP))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: precision over recall">']
    parts += _rows_of_grid(top, y)
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 5}">recall</text>')  # where 0 is; the end is for the unit
    parts += [f'<text class="tick mid" x="{x(tick)}" y="{HEIGHT - 5}">{_short(tick)}</text>' for tick in across[1:-1]]
    parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}">{_short(across[-1])} %</text>')
    for maker, line in known.items():
        percents = [(100 * place / (len(line) - 1), 100 * value) for place, value in enumerate(line[: reached + 2])]
        path = " ".join(f"{x(min(at, across[-1]))},{y(value)}" for at, value in percents)
        parts.append(f'<polyline class="line {maker}" points="{path}"><title>{escape(maker)}</title></polyline>')
    return "".join([*parts, "</svg>"])


Mark = tuple[str, float, float | None, float | None]  # class of colour, value, ends of the interval


def columns(title: str, groups: list[tuple[str, list[Mark]]]) -> str:
    """Values with their intervals, a column a group, from zero up; the groups' labels stand below."""
    values = [each for _, marks in groups for mark in marks for each in mark[1:] if isinstance(each, float | int)]
    ticks = _ticks(0.0, max(values, default=1.0))
    y = _Scale(0.0, ticks[-1], (HEIGHT - BOTTOM, TOP))
    step = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">', *_rows_of_grid(ticks, y)]
    for number, (label, marks) in enumerate(groups):
        middle = LEFT + step * (number + 0.5)
        parts.append(f'<text class="tick mid" x="{middle:.1f}" y="{HEIGHT - 5}">{escape(label)}</text>')
        for place, (colour, value, low, high) in enumerate(marks):
            x = f"{middle + 11 * (place - (len(marks) - 1) / 2):.1f}"
            if low is not None and high is not None:
                parts.append(f'<line class="whisker {colour}" x1="{x}" x2="{x}" y1="{y(low)}" y2="{y(high)}"/>')
            parts.append(f'<circle class="dot {colour}" cx="{x}" cy="{y(value)}" r="3.4"/>')
    return "".join([*parts, "</svg>"])


def _rows_of_grid(ticks: list[float], y: "_Scale") -> list[str]:
    """Horizontal lines with their values at the left."""
    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y(tick)}" dy="0.32em">{_short(tick)}</text>')
    return parts


class _Scale:
    """A linear axis: from a range of values to user units, to a tenth."""

    def __init__(self, low: float, high: float, ends: tuple[int, int]) -> None:
        self.low, self.start = low, ends[0]
        self.unit = (ends[1] - ends[0]) / (high - low)

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) * self.unit, 1)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose a range: steps of 1, 2 or 5 times a power of ten, three to six of them."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _thinned(column: Column) -> Column:
    """At most `MAX_POINTS` points, each the mean of its neighbours; values that are no finite number are left out."""
    finite = [point for point in column if math.isfinite(point[1])]
    edges = [round(index * len(finite) / MAX_POINTS) for index in range(MAX_POINTS + 1)]
    if len(finite) <= MAX_POINTS:
        return finite
    buckets = [finite[start:stop] for start, stop in pairwise(edges)]
    return [(sum(step for step, _ in each) / len(each), sum(v for _, v in each) / len(each)) for each in buckets]


def _short(value: float) -> str:
    """A number as an axis shows it."""
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
