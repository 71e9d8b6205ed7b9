"""A dashboard as a picture, from its JSON and what Prometheus answers: Grafana's places, titles, units and thresholds.

Grafana does not draw it, and the picture says so: it shows what each panel asks, and what a reader finds there. Of a
panel that is repeated for each value of a variable, the first.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from k8s.monitoring.ask import Asker, Series, Thing
from k8s.monitoring.canvas import CARD, COLOURS, DPI, EDGE, FAINT, WIDTH_PX, Box, Canvas, cut
from k8s.monitoring.kinds import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Drawn with matplotlib from the dashboard's JSON and Prometheus' answers. Grafana has not rendered this picture."
COLUMNS, ROW_PX, GAP_PX, HEAD_PX, TITLE_PX = 24, 38, 8, 76, 28  # Grafana's grid, and what is above it and above a panel
PAPER = "#f4f5f5"


def answers(board: Thing, asker: Asker) -> dict[int, list[Series]]:
    """What each panel's queries answer, by its place in the board. Errors: `ValueError` that names the panel."""
    asking = [(place, panel) for place, panel in enumerate(board["panels"]) if panel.get("targets")]
    return {place: asker.series(panel, int(_box(panel)[2])) for place, panel in asking}


def picture(board: Thing, asker: Asker, found: Mapping[int, Sequence[Series]]) -> "Figure":
    """The whole dashboard. Errors: `ValueError` of a panel that is not on the grid, or of a unit or kind unknown."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    height = HEAD_PX + max((_box(panel)[1] + _box(panel)[3] for panel in board["panels"]), default=0) + GAP_PX
    figure = plt.figure(figsize=(WIDTH_PX / DPI, height / DPI), facecolor=PAPER)
    canvas = Canvas(figure, height)
    start, stop = (datetime.fromtimestamp(at, UTC) for at in (asker.window.start, asker.window.stop))
    chosen = "".join(f"   {name}: {value}" for name, value in asker.said.items())
    canvas.text(12, 22, board["title"], size=15, weight="bold")
    canvas.text(12, 45, cut(f"{start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC{chosen}", WIDTH_PX), size=10)
    canvas.text(12, 64, NOTE, size=10, color=COLOURS["red"])
    for place, panel in enumerate(board["panels"]):
        left, top, wide, high = _box(panel)
        _panel(canvas, (left, top + HEAD_PX, wide, high), panel, asker, found.get(place, []))
    return figure


def png(figure: "Figure") -> bytes:
    """The picture's bytes; the figure is closed."""
    from matplotlib import pyplot as plt

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    plt.close(figure)
    return file.getvalue()


def _panel(canvas: Canvas, box: Box, panel: Thing, asker: Asker, found: Sequence[Series]) -> None:
    left, top, wide, high = box
    if panel["type"] == "row":
        canvas.text(left + 6, top + high / 2, f"▾ {panel['title']}", size=12, weight="bold")
        return
    canvas.block(box, CARD, edge=EDGE, behind=3)
    one = {name: value for name, value in asker.first.items() if name == panel.get("repeat")}
    title = asker.text(panel.get("title", ""), one)
    canvas.text(left + 10, top + 16, cut(title, wide - 20, 11), size=11, weight="bold")
    inside = (left + 10, top + TITLE_PX, wide - 20, high - TITLE_PX - 8)
    if panel["type"] == "text":
        canvas.markdown(inside, asker.text(panel["options"]["content"], one))
    elif not found:
        nothing = panel["fieldConfig"]["defaults"].get("noValue") or "No data"
        canvas.text(left + wide / 2, top + high / 2, nothing, size=13, color=FAINT, ha="center")
    elif panel["type"] in KINDS:
        KINDS[panel["type"]](canvas, inside, panel, found, asker.window)
    else:
        raise ValueError(
            f"panel {panel.get('title')!r}: a {panel['type']} is not drawn here ({', '.join(KINDS)}, text)"
        )


def _box(panel: Thing) -> Box:
    """Errors: `ValueError` where it does not fit the grid."""
    at = panel["gridPos"]
    if at["x"] + at["w"] > COLUMNS:
        raise ValueError(f"panel {panel.get('title')!r}: reaches beyond the grid's {COLUMNS} columns")
    column = WIDTH_PX / COLUMNS
    return at["x"] * column + GAP_PX / 2, at["y"] * ROW_PX, at["w"] * column - GAP_PX, at["h"] * ROW_PX - GAP_PX
