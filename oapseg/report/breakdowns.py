"""What the scores of a benchmark come from: precision over recall, sizes, crowding, and what is taken for what."""

from collections import Counter
from html import escape
from typing import Any, Final

from oapseg.evaluate.scores import GENERATOR, MODEL, SIZES, Score
from oapseg.report.chart import Mark, columns, precision_recall

SHOWN_CLASSES: Final = 16  # of a confusion matrix, the most frequent ones
MEASURED: Final = {"mask": "masks", "box": "boxes"}
LETTERS: Final = 18  # of a class's name
COLOURED: Final = (GENERATOR, "pretrained", MODEL)  # the last one on top
CONFUSIONS: Final = {  # heading and unit
    "instance": ("Things", "annotated things by the class of the mask that overlaps them most, at IoU 0.5 or more"),
    "semantic": ("Pixels", "labelled pixels by the class of their cluster"),
}
COLUMNS_LEFT: Final = ("other", "no class", "nothing")


def curve_chapter(details: dict[str, Any]) -> str:
    """Precision over recall of each maker of masks; nothing where no instances were scored."""
    makers = {name: each for name, each in details["makers"].items() if "precision_recall" in each}
    if not makers:
        return ""
    ordered = [name for name in COLOURED if name in makers]
    panels = []
    for level, title in (("0.50", "IoU 0.50"), ("0.75", "IoU 0.75"), ("0.50:0.95", "mean over IoU 0.50 to 0.95")):
        lines = {name: makers[name]["precision_recall"][level] for name in ordered}
        panels.append(f'<div class="panel"><h3>{title}</h3>{precision_recall(title, lines)}</div>')
    return (
        f"<h2>Precision and recall</h2><p>Class-agnostic, {MEASURED[makers[ordered[-1]]['measure']]} of all photos "
        "together, percent. The area below a line is its average precision.</p>"
        + _keys(details, ordered)
        + f'<div class="curves">{"".join(panels)}</div>'
    )


def breakdown_chapter(details: dict[str, Any], scores: dict[str, Score]) -> str:
    """Scores by the size of things and by how many there are in a photo."""
    makers = {name: details["makers"][name] for name in (GENERATOR, MODEL) if name in details["makers"]}
    crowding = {name: each["crowding"] for name, each in makers.items() if each.get("crowding")}
    if not crowding:
        return ""
    measure = makers[MODEL]["measure"]
    recall = next(key for key in crowding[MODEL][0] if key.startswith("AR"))
    panels = []
    for name in ("AP", recall):
        groups = [
            (
                size.removeprefix("_"),
                [mark for maker in makers if (mark := _mark(maker, f"{measure}_{name}{size}", scores))],
            )
            for size in SIZES
        ]
        panels.append(_panel(f"{name} by size", [group for group in groups if group[1]]))
    for name in ("AP50", recall):
        by_group: dict[str, list[Mark]] = {}
        for maker, found in crowding.items():
            for group in found:
                value, low, high = (None if each is None else 100 * each for each in _ends(group[name]))
                if value is not None:
                    by_group.setdefault(_range(group), []).append((maker, value, low, high))
        panels.append(_panel(f"{name} by things in the photo", list(by_group.items())))
    photos = ", ".join(f"{_range(group)}: {group['photos']}" for group in crowding[MODEL])
    return (
        f"<h2>By size and crowding</h2><p>{MEASURED[measure].capitalize()}, percent, with 95&nbsp;% intervals. "
        "Sizes are COCO's: small below 32² px, large above 96² px. Photos by the number of things annotated in them: "
        f"{photos}.</p>" + _keys(details, list(makers)) + f'<div class="curves four">{"".join(panels)}</div>'
    )


def confusion_chapter(details: dict[str, Any]) -> str:
    """What the model's clusters are taken for, class by class."""
    found = details["makers"].get(MODEL, {}).get("confusion", {})
    names = details["benchmark"]["class_names"]
    blocks = []
    for kind, (heading, said) in CONFUSIONS.items():
        if kind in found and found[kind]["cells"]:
            blocks.append(
                f'<h3>{heading}</h3><p class="soft">Rows: {said}. Percent of the row; a column is a class.</p>'
                + _matrix(found[kind], names)
            )
    if not blocks:
        return ""
    return "<h2>What the model takes for what</h2><p>Clusters stand for the class they are mapped to.</p>" + "".join(
        blocks
    )


def _matrix(confusion: dict[str, Any], names: dict[str, str]) -> str:
    """The classes with most in their rows; rarer ones are joined in the column `other`."""
    classes = confusion["classes"]
    totals: Counter[int] = Counter()
    for row, _, count in confusion["cells"]:
        totals[row] += count
    shown = sorted(row for row, _ in totals.most_common(SHOWN_CLASSES))
    place = {row: number for number, row in enumerate(shown)}
    ends = {len(classes): len(shown) + 1, len(classes) + 1: len(shown) + 2}
    table: Counter[tuple[int, int]] = Counter()
    for row, column, count in confusion["cells"]:
        if row in place:
            table[place[row], place.get(column, ends.get(column, len(shown)))] += count
    titles = [_name(names, classes[row]) for row in shown]
    heads = "".join(
        f'<th><span title="{escape(title)}">{escape(title)}</span></th>' for title in (*titles, *COLUMNS_LEFT)
    )
    rows = []
    for number, row in enumerate(shown):
        cells = []
        for column in range(len(shown) + len(COLUMNS_LEFT)):
            share = table[number, column] / totals[row]
            kind, text = "right" if column == number else "", f"{100 * share:.0f}" if share >= 0.005 else ""
            cells.append(f'<td class="{kind}" style="--p:{share:.2f}">{text}</td>')
        rows.append(f"<tr><th>{escape(titles[number])} <small>{totals[row]:,}</small></th>{''.join(cells)}</tr>")
    left = len(totals) - len(shown)
    note = f'<p class="soft">The {len(shown)} most frequent of {len(totals)} classes.</p>' if left else ""
    return f'<div class="wide"><table class="matrix"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>{note}'


def _panel(title: str, groups: list[tuple[str, list[Mark]]]) -> str:
    return f'<div class="panel"><h3>{title}</h3>{columns(title, groups)}</div>' if groups else ""


def _mark(maker: str, name: str, scores: dict[str, Score]) -> Mark | None:
    score = scores.get(f"{maker}.{name}")
    return None if score is None else (maker, score.value, score.low, score.high)


def _ends(score: dict[str, float | None]) -> tuple[float | None, float | None, float | None]:
    return score["value"], score["low"], score["high"]


def _range(group: dict[str, Any]) -> str:
    """How many things: `1`, `2 to 3`, `16+`."""
    fewest, most = group["fewest"], group["most"]
    return f"{fewest}+" if most is None else f"{fewest}" if most == fewest else f"{fewest} to {most}"


def _keys(details: dict[str, Any], makers: list[str]) -> str:
    titles = details.get("titles", {})
    keys = " &nbsp; ".join(f'<span class="key {name}">{escape(titles.get(name, name))}</span>' for name in makers)
    return f'<p class="soft">{keys}</p>'


def _name(names: dict[str, str], number: int) -> str:
    text = names.get(str(number), str(number))
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
