"""The kinds of panels: values in the panel's unit, coloured by its mappings or thresholds, as Grafana has them."""

import math
from collections.abc import Callable, Sequence

from k8s.monitoring.ask import Series, Thing, Window
from k8s.monitoring.canvas import CARD, COLOURS, EDGE, LINE_PX, Box, Canvas, cut
from k8s.monitoring.curves import timeseries
from k8s.monitoring.units import spelled


def told(value: float, panel: Thing) -> tuple[str, str]:
    """A value's text and colour: as the panel maps it, or in its unit and by its thresholds."""
    defaults = panel["fieldConfig"]["defaults"]
    colour = "green"
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step.get("value") is None or value >= step["value"]:
            colour = step["color"]
    for mapping in defaults.get("mappings") or []:
        said = mapping["options"].get(f"{value:g}") if mapping["type"] == "value" else None
        if said:
            return said["text"], COLOURS.get(said.get("color", colour), said.get("color", colour))
    return spelled(value, defaults.get("unit", "")), COLOURS.get(colour, colour)


def last(series: Series) -> float:
    """The newest value that there is."""
    return next((value for value in reversed(series.values) if not math.isnan(value)), math.nan)


def stat(canvas: Canvas, box: Box, panel: Thing, found: Sequence[Series], _window: Window) -> None:
    """A tile a series, its name below where there are several or the panel asks for names."""
    x, y, wide, high = box
    mode = (panel.get("options") or {}).get("textMode", "auto")
    named = mode == "value_and_name" or (mode == "auto" and len(found) > 1)
    columns = min(max(round(math.sqrt(len(found) * wide / high / 2.2)), 1), len(found))
    tile_wide, tile_high = wide / columns, high / math.ceil(len(found) / columns)
    for number, series in enumerate(found):
        text, colour = told(last(series), panel)
        words = series.name if mode == "name" else text
        middle = x + (number % columns + 0.5) * tile_wide
        top = y + number // columns * tile_high
        size = min(28, tile_high / 3.2, 10 * tile_wide / (9 * max(len(words), 1)))
        canvas.text(middle, top + tile_high * (0.38 if named else 0.5), words, size=size, color=colour, ha="center")
        if named:
            canvas.text(middle, top + tile_high * 0.8, cut(series.name, tile_wide, 9), size=9, ha="center")


def bars(canvas: Canvas, box: Box, panel: Thing, found: Sequence[Series], _window: Window) -> None:
    """A bar a series from the least to the most, its name above and its value beside it."""
    x, y, wide, high = box
    defaults = panel["fieldConfig"]["defaults"]
    values = [last(series) for series in found]
    low = defaults["min"] if defaults.get("min") is not None else min(0.0, *values)
    most = defaults["max"] if defaults.get("max") is not None else max(*values, low)
    each = min(high / len(found), 44)
    for number, (series, value) in enumerate(zip(found, values, strict=True)):
        text, colour = told(value, panel)
        top = y + number * each
        share = min(max((value - low) / (most - low), 0), 1) if most > low else 0.0
        canvas.text(x, top + each * 0.22, cut(series.name, wide), size=min(9, each * 0.42))
        canvas.block((x, top + each * 0.44, wide - 115, each * 0.4), EDGE, behind=2)
        canvas.block((x, top + each * 0.44, (wide - 115) * share, each * 0.4), colour)
        canvas.text(x + wide, top + each * 0.64, text, size=min(12, each * 0.5), color=colour, ha="right")


def timeline(canvas: Canvas, box: Box, panel: Thing, found: Sequence[Series], window: Window) -> None:
    """A row a series, a bar for each state as long as it lasts, and which colour is which state."""
    x, y, wide, high = box
    names_px = min(0.4 * wide, 8 * max(len(series.name) for series in found) + 10)
    each = min((high - LINE_PX) / len(found), 40)
    span = (wide - names_px) / (window.stop - window.start)
    states: dict[str, str] = {}
    for number, series in enumerate(found):
        top = y + number * each
        canvas.text(x, top + each / 2, cut(series.name, names_px, 9), size=min(9, each * 0.6))
        canvas.block((x + names_px, top + each * 0.1, wide - names_px, each * 0.8), CARD, edge=EDGE, behind=2)
        for place, (at, value) in enumerate(zip(series.times, series.values, strict=True)):
            if math.isnan(value):
                continue
            until = series.times[place + 1] if place + 1 < len(series.times) else window.stop
            text, colour = told(value, panel)
            states[text] = colour
            left = x + names_px + max(at - window.start, 0) * span
            canvas.block((left, top + each * 0.1, max((until - at) * span, 1), each * 0.8), colour)
    for number, (text, colour) in enumerate(states.items()):
        canvas.block((x + number * 120, y + high - 12, 10, 10), colour)
        canvas.text(x + number * 120 + 15, y + high - 7, cut(text, 100, 9), size=9)


Draws = Callable[[Canvas, Box, Thing, Sequence[Series], Window], None]
KINDS: dict[str, Draws] = {
    "timeseries": timeseries,
    "stat": stat,
    "bargauge": bars,
    "state-timeline": timeline,
}
