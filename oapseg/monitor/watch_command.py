"""A training's health in the terminal, from its `history.jsonl`: alarms, values, and how they went."""

import argparse
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from oapseg.monitor.health import Health
from oapseg.monitor.history import HISTORY, Column, read_history, rows_of
from oapseg.monitor.panels import GROUPS
from oapseg.monitor.rules import RULES
from oapseg.params import load_params

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH, LEAST_WIDTH = 40, 8  # of a line of blocks
NARROW = 96  # columns of a terminal that has no place for where values came from
NUMBERS_WIDTH, FEW_NUMBERS_WIDTH = 86, 66  # of the columns beside the blocks, and of those where it is narrow
SIGN = {"seconds": " s", "bytes": " GiB"}
GIB = 2**30
STALE_S = 600  # without a new line, the training has ended or stands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training, such as work/pretrain")
    parser.add_argument("--once", action="store_true", help="print it once, and leave with 1 where there is an alarm")
    parser.add_argument("--every-s", type=float, default=2.0, help="seconds between looks")


def main(args: argparse.Namespace) -> int:
    load_params(args.params)  # whose mistakes every command tells
    if args.every_s <= 0:
        raise ValueError(f"--every-s: must be above 0, is {args.every_s}")
    console = Console(highlight=False)
    if args.once:
        columns = read_history(args.run)
        console.print(drawn(args.run, columns, console.width))
        return int(bool(judged(columns).alarms))
    with Live(view(args.run, console.width, console.height), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(args.every_s)
                live.update(view(args.run, console.width, console.height), refresh=True)
        except KeyboardInterrupt:
            return 0


def judged(columns: dict[str, Column]) -> Health:
    """What the rules say of the history so far."""
    health = Health()
    for row in rows_of(columns):
        health.see(row)
    return health


def view(run: Path, width: int, height: int) -> RenderableType:
    """What fits into a terminal of so many columns and lines. Errors: `ValueError` where there is no history."""
    return drawn(run, read_history(run), width, height)


def drawn(run: Path, columns: dict[str, Column], width: int, height: int | None = None) -> RenderableType:
    """The same, of a history that was read; without a height, all of it."""
    if not columns:
        return Text(f"{run}: no step yet")
    health = judged(columns)
    above = [_head(run, columns), *(Text(f"ALARM  {alarm}", style="bold red") for alarm in health.alarms)]
    if not health.alarms:
        above.append(Text("well: no alarm", style="green"))
    lines = shown = _lines(columns)
    below: list[RenderableType] = []
    if height is not None:
        taken = sum(-(-len(text) // width) for text in above) + 3  # the table's head, the line below, the cursor
        shown = fitting(lines, height - taken)
    if len(shown) < len(lines):
        below.append(Text(f"{len(lines) - len(shown)} more in a higher terminal, or by --once", style="dim"))
    return Group(*above, _table(shown, {alarm.rule.key for alarm in health.alarms}, width), *below)


class Line(NamedTuple):
    """A quantity: where it stands, what it is called, its finite values, and what they count in."""

    group: str
    label: str
    key: str
    values: list[float]
    unit: str
    limits: str
    rank: int  # 0 where a rule judges it, 1 where it is the first of its panel


def _lines(columns: dict[str, Column]) -> list[Line]:
    found = []
    for group, panels in GROUPS.items():
        for panel in panels:
            for place, (key, name) in enumerate(panel.lines(columns).items()):
                values = [value for _, value in columns[key] if math.isfinite(value)]
                limits = ", ".join(f"{rule.sign} {rule.limit:g}" for rule in panel.rules() if rule.key == key)
                label = panel.title if name == panel.title.lower() else f"{panel.title}: {name}"
                rank = 0 if any(rule.key == key for rule in RULES) else min(place, 1) + 1
                found += [Line(group, label, key, values, panel.unit, limits, rank)] if values else []
    return found


def fitting(lines: Sequence[Line], room: int) -> list[Line]:
    """As many as there is room for, headings of their groups too: what a rule judges stays longest."""
    kept = list(lines)
    while kept and len(kept) + len({line.group for line in kept}) > room:
        kept.remove(max(reversed(kept), key=lambda line: line.rank))
    return kept


def _head(run: Path, columns: dict[str, Column]) -> Text:
    step = max(column[-1][0] for column in columns.values())
    age = time.time() - (run / HISTORY).stat().st_mtime
    pace = columns.get("images_per_second", [(0.0, math.nan)])[-1][1]
    said = [f"{run}  step {step:.0f}"]
    said += [] if math.isnan(pace) else [f"{pace:.2f} photos/s"]
    said.append(f"last line {age:.0f} s ago" + (": it stands or has ended" if age > STALE_S else ""))
    return Text(", ".join(said), style="bold")


def _table(lines: Sequence[Line], suspects: set[str], width: int) -> Table:
    narrow = width < NARROW
    beside = width - (FEW_NUMBERS_WIDTH if narrow else NUMBERS_WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("so far", no_wrap=True)
    for name in ("alarm at",) if narrow else ("from", "to", "alarm at"):
        table.add_column(name, justify="right", no_wrap=True)
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            table.add_row(Text(group, style="bold"))
        values = [value / GIB for value in line.values] if line.unit == "bytes" else line.values
        ends = [] if narrow else [_short(min(values)), _short(max(values))]
        table.add_row(
            Text(f"  {line.label}", style="bold red" if line.key in suspects else ""),
            _short(values[-1]) + SIGN.get(line.unit, ""),
            blocks(values, min(WIDTH, max(LEAST_WIDTH, beside))),
            *ends,
            line.limits,
        )
    return table


def blocks(values: Sequence[float | int], width: int = WIDTH) -> str:
    """Values as a row of blocks, means of neighbours where there are more than fit."""
    if len(values) > width:
        edges = [round(place * len(values) / width) for place in range(width + 1)]
        values = [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(edges)]
    low, high = min(values), max(values)
    span = high - low
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in values)


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"
