"""The page of two runs side by side: scores in pairs, and the photos that changed most."""

from html import escape

from oapseg.evaluate.details import PHOTO_SCORE
from oapseg.evaluate.paired import Change, Comparison, Difference
from oapseg.evaluate.scores import SIZES
from oapseg.report.chart import BAR_HEIGHT, BAR_WIDTH
from oapseg.report.page import document, kinds_of
from oapseg.report.photos import Row, rows_html


def render_runs(
    titles: tuple[str, str], facts: list[tuple[str, str]], found: Comparison, photos: dict[str, list[Row]]
) -> str:
    """The whole page. `facts` say what was compared, `photos` are rows of pictures by what became of them."""
    first, second = (escape(title) for title in titles)
    title = f"{titles[1]} against {titles[0]}"
    names = list(found.differences)
    overall = [name for name in names if not name.endswith(SIZES)]
    by_size = [name for name in names if name.endswith(SIZES)]
    clear = [name for name in overall if found.differences[name].excludes_zero]
    better = sum(found.differences[name].value > 0 for name in clear)
    return document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">Of {len(overall)} scores, {better} rise and {len(clear) - better} fall by more than the '
            "luck of which photos were drawn (the 95&nbsp;% interval of the difference leaves out 0). Training anew "
            "moves scores too; that is not in the intervals.</p>",
            _facts(facts),
            "<h2>Scores</h2>" + _table(overall, first, second, found.differences),
            f"<details><summary>By size</summary>{_table(by_size, first, second, found.differences)}</details>"
            if by_size
            else "",
            _photos(found, photos, first, second),
        ],
    )


def summary(changes: list[Change]) -> str:
    """How many photos got better and worse."""
    better, worse = (sum(sign * (each.b - each.a) > 0 for each in changes) for sign in (1, -1))
    return (
        f"{better} of {len(changes)} photos got better, {worse} worse, {len(changes) - better - worse} stayed the same"
    )


def _facts(facts: list[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(text)}</dd>' for term, text in facts)}</dl>"


def _table(names: list[str], first: str, second: str, differences: dict[str, Difference]) -> str:
    rows = []
    for heading, prefix, of_kind in kinds_of(names):
        far = max([abs(end) for name in of_kind for end in _ends(differences[name])] or [1.0]) or 1.0
        rows.append(f'<tr class="group"><td colspan="4">{heading}</td><td>-{far:.1f} to {far:.1f}</td></tr>')
        for name in of_kind:
            each = differences[name]
            ends = "" if each.low is None else f" <small>{each.low:+z.1f} to {each.high:+z.1f}</small>"
            kind = ("up" if each.value > 0 else "down") if each.excludes_zero else "peer"
            label = escape(name.removeprefix(prefix).replace("_", " "))
            rows.append(
                f"<tr><td>{label}</td><td>{each.a:.1f}</td><td>{each.b:.1f}</td>"
                f'<td class="{kind}">{each.value:+z.1f}{ends}</td><td>{_bar(each, far, kind)}</td></tr>'
            )
    head = f"<tr><th></th><th>{first}</th><th>{second}</th><th>difference</th><th></th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _bar(each: Difference, far: float, kind: str) -> str:
    """The difference and its interval about 0."""
    middle, height = BAR_WIDTH / 2, BAR_HEIGHT / 2

    def x(value: float) -> float:
        return round(middle + value / far * (middle - 6), 1)

    whisker = ""
    if each.low is not None and each.high is not None:
        whisker = f'<line class="whisker {kind}" x1="{x(each.low)}" x2="{x(each.high)}" y1="{height}" y2="{height}"/>'
    return (
        f'<svg class="bars" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" aria-hidden="true">'
        f'<line class="grid" x1="{middle}" x2="{middle}" y1="0" y2="{BAR_HEIGHT}"/>{whisker}'
        f'<circle class="dot {kind}" cx="{x(each.value)}" cy="{height}" r="3.4"/></svg>'
    )


def _ends(each: Difference) -> list[float]:
    return [end for end in (each.value, each.low, each.high) if end is not None]


def _photos(found: Comparison, photos: dict[str, list[Row]], first: str, second: str) -> str:
    if not found.photos:
        return ""
    lines = [
        f"<dt>{task}: {escape(PHOTO_SCORE[task])}</dt><dd>{summary(each)}</dd>" for task, each in found.photos.items()
    ]
    blocks = [f"<h3>{escape(how)}</h3>{rows_html(rows)}" for how, rows in photos.items() if rows]
    said = (
        f"<p>Those that changed most, from {first} to {second}; a thing, or a class, keeps its colour.</p>"
        if blocks
        else ""
    )
    return f"<h2>Photos</h2><dl>{''.join(lines)}</dl>{said}{''.join(blocks)}"
