"""A leaderboard of generators: Markdown, CSV, and a page with the same photos side by side."""

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from oapseg.evaluate.compare import Row, Value

STYLES = (Path(__file__).with_name("page.css"), Path(__file__).with_name("leaderboard.css"))
MEASURES = {  # label-free, as shares, and what they say
    "coverage": "share of the photo in some mask",
    "edges": "rank of the photo's edges under the masks' boundaries; 0.50 is chance",
    "levels": "IoU of a mask with the best of the next level",
}
NAMED_FAILED = 3
FEW_DIGITS_FROM = 10.0  # percent
SCALE_PX = 72  # of the bar of an AP50


class Picture(NamedTuple):
    """What one generator found in a photo."""

    name: str  # of the generator, or of the labels
    caption: str
    jpegs: list[str]  # base64: its masks; with labels, the best one for each thing too


class Told(NamedTuple):
    """What is said of the whole comparison."""

    title: str
    lines: list[str]


def score_names(rows: Sequence[Row]) -> list[str]:
    """The scores of a leaderboard that were measured: AP, AP50 and the recall with most masks, of masks and boxes."""
    found = {name for row in rows for name in row.scores}
    limits = [int(name[7:]) for name in found if name.startswith("mask_AR") and name[7:].isdigit()]
    recall = f"AR{max(limits, default=100)}"
    return [f"{of}_{name}" for of in ("mask", "box") for name in ("AP", "AP50", recall) if f"{of}_{name}" in found]


def as_csv(rows: Sequence[Row]) -> str:
    """A row a generator, plain numbers: scores in percent, seconds, bytes; empty where there is none."""
    names = score_names(rows)
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    table.writerow(
        ["generator", *ends, "instance_masks", "semantic_masks", "seconds", "cpu_seconds", "peak_bytes", *MEASURES,
         "photos", "photos_failed", "score_rule", "failure", "views", "settings"]
    )  # fmt: skip
    for row in rows:
        values = [row.scores.get(name) for name in names]
        scores = ["" if end is None else f"{end:.3f}" for value in values for end in _ends(value)]
        counts = [_number(row, name, 2) for name in ("instance", "semantic")]
        times = [_each(row, seconds, 6) for seconds in (row.cost.seconds, row.cost.cpu_seconds)]
        peak = "" if row.peak_bytes is None else str(row.peak_bytes)
        measures = [_number(row, name, 4) for name in MEASURES]
        told = [row.cost.photos or "", len(row.failed), row.score_rule, row.failure or "", row.views, row.settings]
        table.writerow([row.name, *scores, *counts, *times, peak, *measures, *told])
    return file.getvalue()


def as_markdown(told: Told, rows: Sequence[Row]) -> str:
    """A title, the table, and under it what its columns are."""
    head = _head(rows)
    lines = [f"# {told.title}", "", *told.lines, "", _line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    lines += [_line([row.name, *_cells(row, rows)]) for row in rows]
    said = [*notes(rows), *settings(rows)]
    return "\n".join([*lines, "", *(f"- {text}" for text in said)]) + "\n"


def as_html(told: Told, rows: Sequence[Row], photos: Sequence[tuple[str, list[Picture]]]) -> str:
    """One page that needs nothing from outside."""
    styles = "".join(path.read_text() for path in STYLES)
    head = "".join(f"<th>{escape(name)}</th>" for name in _head(rows))
    table = "".join(_html_row(row, rows) for row in rows)
    blocks = "".join(_block(name, pictures) for name, pictures in photos)
    shown = (
        "<h2>Photos</h2><p>Spread evenly over the set, not chosen. Each generator: its instance masks, small ones on "
        "top; below, where there are labels, the mask of highest IoU for each thing: what recall measures.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(told.title)}</title>\n<style>\n{styles}</style></head>\n<body>\n"
        f"<h1>{escape(told.title)}</h1>{''.join(f'<p>{escape(line)}</p>' for line in told.lines)}\n"
        f'<div class="wide"><table class="board"><tr>{head}</tr>{table}</table></div>\n'
        f'<ul class="soft">{_items(notes(rows))}</ul>\n'
        f'<details><summary>Settings</summary><ul class="soft">{_items(settings(rows))}</ul></details>\n'
        + (shown + blocks if blocks else "")
        + "\n</body></html>\n"
    )


def digits(rows: Sequence[Row], name: str) -> int:
    """Decimals of a score: more where even the best is small, or all of them look alike."""
    best = max((row.scores[name].value for row in rows if name in row.scores), default=0.0)
    return 1 if best >= FEW_DIGITS_FROM else 2


def notes(rows: Sequence[Row]) -> list[str]:
    """What the columns are, and by what each generator's masks are ranked."""
    rules: dict[str, list[str]] = {}
    for row in rows:
        if row.score_rule:
            rules.setdefault(row.score_rule, []).append(row.name)
    said = [f"Score rule of {', '.join(names)}: {rule}." for rule, names in rules.items()]
    if any(row.scores for row in rows):
        said.append(
            "Ranked by AP50 of masks. Where every score is 1, AP blames a mask that is no thing wherever it stands: it "
            "tells precision. AR tells how well the best mask for each thing fits, and forgives the rest."
        )
    said += [f"{name}: {text}." for name, text in MEASURES.items()]
    said.append(
        "Masks, semantic, coverage, edges and levels are of the masks that are kept. Seconds: of a photo, from the "
        "encoder's features to those masks (the generator, what chooses among its masks, a dense CRF where there is "
        "one), the photo's encoding and the writing left out, by the clock (s) and by the CPU (CPU s). MB: the most "
        "memory that the generator alone took for one photo, in a process of its own."
    )
    said += [f"No MB of {row.name}: {row.no_peak}." for row in rows if row.no_peak]
    for row in rows:
        if row.failed and row.failure is None:
            named = ", ".join(f"{name} ({why})" for name, why in list(row.failed.items())[:NAMED_FAILED])
            said.append(f"{row.name} failed on {len(row.failed)} photos, which count as photos without masks: {named}.")
    return said


def settings(rows: Sequence[Row]) -> list[str]:
    """With which settings each generator made its masks."""
    return [f"Settings of {row.name}: {row.settings}." for row in rows if row.settings]


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _head(rows: Sequence[Row]) -> list[str]:
    scores = [name.replace("_", " ") for name in score_names(rows)]
    return ["generator", *scores, "masks", "semantic", "s", "CPU s", "MB", *MEASURES]


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    if row.failure is not None:
        return [row.failure.replace("|", "/"), *[""] * (len(_head(rows)) - 2)]
    scores = [_text(row.scores.get(name), digits(rows, name)) for name in score_names(rows)]
    peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
    times = [_each(row, seconds, 3) for seconds in (row.cost.seconds, row.cost.cpu_seconds)]
    counts = [_number(row, name, 1) for name in ("instance", "semantic")]
    return [*scores, *counts, *times, peak, *(_number(row, name, 2) for name in MEASURES)]


def _html_row(row: Row, rows: Sequence[Row]) -> str:
    name = f'<th scope="row">{escape(row.name)}</th>'
    if row.failure is not None:
        return f'<tr>{name}<td class="why" colspan="{len(_head(rows)) - 1}">{escape(row.failure)}</td></tr>'
    best = {each: max(other.scores[each].value for other in rows if each in other.scores) for each in score_names(rows)}
    cells = []
    for each in score_names(rows):
        value = row.scores.get(each)
        if value is None:
            cells.append("<td></td>")
            continue
        share = value.value / best[each] if best[each] else 0.0
        few = digits(rows, each)
        interval = "" if value.low is None else f"<small>{value.low:.{few}f} to {value.high:.{few}f}</small>"
        cells.append(
            f'<td><b class="{"best" if share == 1 else ""}">{value.value:.{few}f}</b> {interval}'
            f'<i style="width:{SCALE_PX * share:.0f}px"></i></td>'
        )
    rest = _cells(row, rows)[len(cells) :]
    return f"<tr>{name}{''.join(cells)}{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"


def _block(name: str, pictures: Sequence[Picture]) -> str:
    figures = []
    for each in pictures:
        images = "".join(
            f'<img loading="lazy" decoding="async" src="data:image/jpeg;base64,{jpeg}" '
            f'alt="{escape(name)}, {escape(each.name)}">'
            for jpeg in each.jpegs
        )
        caption = f"<b>{escape(each.name)}</b> {escape(each.caption)}"
        figures.append(f"<figure><figcaption>{caption}</figcaption>{images}</figure>")
    return f'<h3>{escape(name)}</h3><div class="beside">{"".join(figures)}</div>'


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Value | None, places: int) -> str:
    if value is None:
        return ""
    return f"{value.value:.{places}f}" + (
        "" if value.low is None else f" [{value.low:.{places}f}, {value.high:.{places}f}]"
    )


def _ends(value: Value | None) -> tuple[float | None, ...]:
    return (None, None, None) if value is None else (value.value, value.low, value.high)


def _number(row: Row, name: str, digits: int) -> str:
    return f"{row.cost.measures[name]:.{digits}f}" if name in row.cost.measures else ""


def _each(row: Row, seconds: float, digits: int) -> str:
    return f"{seconds / row.cost.photos:.{digits}f}" if row.cost.photos else ""
