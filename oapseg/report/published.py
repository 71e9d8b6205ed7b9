"""Figures that papers published for a benchmark, greyed, beside ours: each with its source and what to mind."""

from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from oapseg.evaluate.scores import GENERATOR, MODEL, Score

FILE: Final = Path(__file__).with_name("published.yaml")
KINDS: Final = {GENERATOR: "a generator", MODEL: "a trained model"}


class Published(NamedTuple):
    """Figures of one method in one table of a paper: text by score, as the paper prints it, in percent."""

    method: str
    figures: dict[str, str]
    source: str  # short
    paper: str
    table: str
    caveat: str | None
    kind: str  # `generator` or `model`


@cache
def read_published() -> dict[str, list[Published]]:
    """All figures by benchmark, generators before models."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    found: dict[str, list[Published]] = {}
    for benchmark, groups in content["figures"].items():
        for source, table, caveat, kind, scores, methods in groups:
            note = None if caveat is None else content["caveats"][caveat]
            for method, values in methods.items():
                texts = [value if isinstance(value, str) else f"{value:.1f}" for value in values]
                figures = dict(zip(scores, texts, strict=True))
                short, paper = content["sources"][source]
                found.setdefault(benchmark, []).append(Published(method, figures, short, paper, str(table), note, kind))
    return {benchmark: sorted(rows, key=lambda row: row.kind) for benchmark, rows in found.items()}


def published_chapter(scores: dict[str, Score], generator: str, kinds: Mapping[str, str]) -> str:
    """What papers report of this benchmark, or a line that they report none; `kinds` are headings by prefix of a score.

    A figure is shown for its own benchmark alone, and only where the same score was measured here.
    """
    benchmark = next((score.benchmark for score in scores.values()), "")
    measured = {flat.partition(".")[2] for flat in scores}
    rows = [row for row in read_published().get(benchmark, []) if measured & row.figures.keys()]
    if not rows:
        return (
            "<h2>Published figures</h2><p>None are shown: a paper's figures hold for the benchmark that they were "
            f"measured on, and none that we know of were measured on {escape(benchmark)}.</p>"
        )
    notes = list(dict.fromkeys(row.caveat for row in rows if row.caveat))
    tables = []
    for prefix, heading in kinds.items():
        of_kind = [row for row in rows if any(name.startswith(prefix) for name in row.figures)] if prefix else []
        names = [name for name in dict.fromkeys(name for row in of_kind for name in row.figures) if name in measured]
        if names:
            tables.append(_table(heading, prefix, names, of_kind, scores, generator, notes))
    said = [f"<dt>{number}</dt><dd>{escape(note)}</dd>" for number, note in enumerate(notes, 1)]
    papers = dict.fromkeys((row.source, row.paper) for row in rows)
    said += [f"<dt>{escape(short)}</dt><dd>{escape(paper)}</dd>" for short, paper in papers]
    photos = max(score.images for score in scores.values())
    return (
        f"<h2>Published figures</h2><p>In grey, what papers report of {escape(benchmark)}, in percent, as they print "
        "it: their encoders, their training, their evaluation. It says where the field stands, not which method is "
        f"better; that takes one evaluator. Ours is of {photos:,} photos.</p>"
        f'{"".join(tables)}<dl class="notes">{"".join(said)}</dl>'
    )


def _table(
    heading: str,
    prefix: str,
    names: list[str],
    rows: list[Published],
    scores: dict[str, Score],
    generator: str,
    notes: list[str],
) -> str:
    """Ours first, then the papers', a column a score."""
    head = "".join(f"<th>{escape(name.removeprefix(prefix).replace('_', ' '))}</th>" for name in names)
    lines = []
    for maker, title in ((GENERATOR, generator), (MODEL, "model")):
        found = [scores.get(f"{maker}.{name}") for name in names]
        mapped = dict.fromkeys(f"; {each.mapping}, fitted on {each.fit_on}" for each in found if each and each.mapping)
        lines.append(
            f'<tr><td><span class="key {maker}">{escape(title)}</span> <small>this run{escape("".join(mapped))}</small>'
            f"</td>{''.join(map(_ours, found))}</tr>"
        )
    for row in rows:
        if not row.figures.keys() & set(names):
            continue
        cells = "".join(f"<td>{escape(row.figures.get(name, '-'))}</td>" for name in names)
        note = f"<sup>{notes.index(row.caveat) + 1}</sup>" if row.caveat else ""
        said = f"<small>{escape(row.source)}, table {escape(row.table)}, {KINDS[row.kind]}{note}</small>"
        lines.append(f'<tr class="peer"><td>{escape(row.method)} {said}</td>{cells}</tr>')
    return (
        f'<div class="wide"><table class="published"><tr><th>{escape(heading)}</th>{head}</tr>'
        f"{''.join(lines)}</table></div>"
    )


def _ours(score: Score | None) -> str:
    if score is None:
        return "<td>-</td>"
    ends = "" if score.low is None else f" <small>{score.low:.1f} to {score.high:.1f}</small>"
    return f"<td>{score.value:.1f}{ends}</td>"
