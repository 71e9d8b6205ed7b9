"""Curves over time with their axis, thresholds and legend, as Grafana's panel "Time series" has them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from k8s.monitoring.ask import Series, Thing, Window
from k8s.monitoring.canvas import COLOURS, LETTER_PX, LINE_PX, PALETTE, Box, Canvas, cut
from k8s.monitoring.units import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEGEND_SHARE = 0.35  # of the panel's height; what does not fit is seen by scrolling
AXIS_PX, LABEL_PX = 62, 16
SHORT_S = 600  # a window whose ticks are told apart by seconds


def timeseries(canvas: Canvas, box: Box, panel: Thing, found: Sequence[Series], window: Window) -> None:
    """The whole panel."""
    x, y, wide, high = box
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    rows = _flow([series.name for series in found], wide, int(high * LEGEND_SHARE / LINE_PX))
    label = custom.get("axisLabel") or ""
    left = AXIS_PX + (LABEL_PX if label else 0)
    axes = canvas.axes((x + left, y + 4, wide - left - 6, high - len(rows) * LINE_PX - 30))
    for number, series in enumerate(found):
        times = [datetime.fromtimestamp(at, UTC) for at in series.times]
        few = sum(map(math.isfinite, series.values)) == 1
        axes.plot(times, series.values, color=_colour(number), linewidth=1.2, marker="o" if few else "", markersize=4)
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log", base=custom["scaleDistribution"].get("log", 10))
    axes.set_xlim(*(datetime.fromtimestamp(at, UTC) for at in (window.start, window.stop)))
    axes.set_ylim(*_limits(axes.get_ylim(), found, defaults))
    _thresholds(axes, defaults)
    _ticks(axes, defaults.get("unit", ""), "%H:%M" if window.stop - window.start > SHORT_S else "%H:%M:%S")
    axes.set_ylabel(label, fontsize=8, color="#555555")
    for line, row in enumerate(rows):
        at, top = x, y + high - (len(rows) - line) * LINE_PX + LINE_PX / 2
        for number, name in row:
            canvas.block((at, top - 2, 14, 4), _colour(number))
            canvas.text(at + 18, top, name, size=9)
            at += _wide(name)


def _limits(now: tuple[float, float], found: Sequence[Series], defaults: Thing) -> tuple[float, float]:
    """Where the axis begins and ends: hard limits, soft ones, and room where all values are alike."""
    low, high = now
    custom = defaults.get("custom", {})
    values = [value for series in found for value in series.values if math.isfinite(value)]
    if values and min(values) == max(values):
        low, high = (0.0, 2 * values[0]) if values[0] > 0 else (2 * values[0], 1.0)
    if custom.get("axisSoftMin") is not None:
        low = min(low, custom["axisSoftMin"])
    if custom.get("axisSoftMax") is not None:
        high = max(high, custom["axisSoftMax"])
    low = defaults["min"] if defaults.get("min") is not None else low
    return low, defaults["max"] if defaults.get("max") is not None else high


def _thresholds(axes: "Axes", defaults: Thing) -> None:
    """Lines where a threshold lies, and its colour behind all that is beyond it, as the panel's style says."""
    style = defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
    steps = defaults.get("thresholds", {}).get("steps", [])
    low, high = axes.get_ylim()
    for place, step in enumerate(steps):
        start = low if step.get("value") is None else step["value"]
        stop = steps[place + 1]["value"] if place + 1 < len(steps) else high
        if step["color"] == "transparent":
            continue
        colour = COLOURS.get(step["color"], step["color"])
        if "area" in style and start < high and stop > low:
            axes.axhspan(max(start, low), min(stop, high), color=colour, alpha=0.12, linewidth=0)
        if step.get("value") is not None and low <= start <= high and style.startswith(("line", "dashed")):
            axes.axhline(start, color=colour, linestyle="--" if "dashed" in style else "-", linewidth=1.2)
    axes.set_ylim(low, high)


def _ticks(axes: "Axes", unit: str, clock: str) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: spelled(float(f"{value:.10g}"), unit)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=7))
    axes.xaxis.set_major_formatter(DateFormatter(clock, tz=UTC))
    axes.tick_params(labelsize=8, length=0, colors="#555555")
    axes.grid(visible=True, color="#ececec", linewidth=0.8)
    for side in axes.spines.values():
        side.set_visible(False)


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)] if number >= 0 else "none"


def _wide(name: str) -> float:
    return 18 + len(name) * LETTER_PX * 0.9 + 12


def _flow(names: Sequence[str], wide: float, most: int) -> list[list[tuple[int, str]]]:
    """Names in rows as the legend lays them, each with its number; -1 with a word on those that need scrolling."""
    rows: list[list[tuple[int, str]]] = [[]]
    used = 0.0
    for number, name in enumerate(names):
        shown = cut(name, wide - 40, 9)
        if rows[-1] and used + _wide(shown) > wide:
            if len(rows) == max(most, 1):
                rows[-1] = [(-1, f"… {len(names)} in all, the others by scrolling")]
                return rows
            rows.append([])
            used = 0.0
        rows[-1].append((number, shown))
        used += _wide(shown)
    return rows
