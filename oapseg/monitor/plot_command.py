"""The curves of a training as a picture and as one page that needs nothing else, from its `history.jsonl`."""

import argparse
import base64
import io
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oapseg import storage
from oapseg.monitor.health import Alarm, first_alarms
from oapseg.monitor.history import Column, read_history, rows_of
from oapseg.monitor.panels import GROUPS, Panel
from oapseg.params import load_params

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 4  # panels in a row
PANEL_INCHES = (4.2, 2.6)
DPI = 100
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}img{max-width:100%}.alarm{color:#c00}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training, such as work/pretrain")
    parser.add_argument("--out", type=Path, help="folder for curves.png and curves.html; default: RUN")


def main(args: argparse.Namespace) -> None:
    load_params(args.params)  # whose mistakes every command tells
    columns = read_history(args.run)
    if not columns:
        raise ValueError(f"{args.run}: its history has no line yet")
    alarms = first_alarms(rows_of(columns))
    out: Path = args.out or args.run
    pictures = {group: draw(panels, columns, alarms) for group, panels in GROUPS.items() if _any(panels, columns)}
    storage.write_bytes(out / "curves.png", draw([p for panels in GROUPS.values() for p in panels], columns, alarms))
    storage.write_text(out / "curves.html", page(str(args.run), pictures, alarms))
    print(f"Written: curves.png and curves.html in {out}")


def draw(panels: Any, columns: Mapping[str, Column], alarms: Mapping[str, Alarm]) -> bytes:
    """A PNG of the panels that have something to show; limits dashed, and where an alarm began."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [panel for panel in panels if panel.lines(columns)]
    rows = math.ceil(len(shown) / ACROSS)
    figure, axes = plt.subplots(
        rows, ACROSS, figsize=(ACROSS * PANEL_INCHES[0], rows * PANEL_INCHES[1]), squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes.flat, shown, strict=False):
        _draw_panel(axis, panel, columns, alarms)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    plt.close(figure)
    return file.getvalue()


def _draw_panel(axis: "Axes", panel: Panel, columns: Mapping[str, Column], alarms: Mapping[str, Alarm]) -> None:
    lines = panel.lines(columns)
    for key, name in lines.items():
        steps, values = zip(*columns[key], strict=True)
        axis.plot(steps, values, label=name, linewidth=1.2)
    for rule in panel.rules():
        of = f"limit of {lines.get(rule.key, rule.key)}" if len(lines) > 1 else None
        axis.axhline(rule.limit, color="#c00", linestyle="--", linewidth=0.8, label=of)
        if rule.name in alarms:
            axis.axvline(alarms[rule.name].step, color="#c00", linewidth=0.8)
    axis.set_title(f"{panel.title}, {panel.unit}" if panel.unit else panel.title, fontsize=10)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    if panel.log and min(value for key in lines for _, value in columns[key]) > 0:
        axis.set_yscale("log")
    if len(lines) > 1:
        axis.legend(fontsize=6, ncols=2)


def page(title: str, pictures: Mapping[str, bytes], alarms: Mapping[str, Alarm]) -> str:
    """One HTML page with the pictures inside."""
    said = "".join(f'<p class="alarm">{escape(str(alarm))}</p>' for alarm in alarms.values())
    parts = [
        f'<h2>{escape(group)}</h2><img alt="{escape(group)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}">'
        for group, picture in pictures.items()
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1>{said or '<p>No alarm.</p>'}{''.join(parts)}</html>\n"
    )


def _any(panels: tuple[Panel, ...], columns: Mapping[str, Column]) -> bool:
    return any(panel.lines(columns) for panel in panels)
