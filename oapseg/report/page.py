"""The page itself: cards, tables, curves and photos as one HTML text."""

from html import escape
from pathlib import Path

from oapseg.evaluate.scores import GENERATOR, MODEL, SIZES, Score
from oapseg.report.chart import curves, interval_bars
from oapseg.report.history import Column
from oapseg.report.photos import Panel

STYLE = Path(__file__).with_name("page.css")
KINDS = {  # of scores, by how their names begin
    "mask_": "Masks",
    "box_": "Boxes",
    "class_mask_": "Masks by class",
    "class_box_": "Boxes by class",
    "semantic_": "Semantic",
    "panoptic_": "Panoptic",
}
MARKED = (GENERATOR, MODEL)  # drawn as bars
CAPTIONS = ("annotated", "{generator}, best mask for each", "model, best mask for each", "model, as it ranks them")


def render(
    title: str,
    scores: dict[str, Score],
    histories: dict[str, dict[str, Column]],
    rows: list[tuple[str, list[Panel]]],
) -> str:
    """The whole page. `histories` are columns by training step, `rows` the pictures of each photo by its name."""
    generator = next((score.generator for score in scores.values() if score.generator), None) or "generator"
    benchmarks = dict.fromkeys(f"{score.images} photos of {score.benchmark}" for score in scores.values())
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(", ".join(benchmarks))}. All scores in percent, with 95&nbsp;% intervals by the '
        "bootstrap over photos.</p>",
        _cards(scores, generator),
        _scores(scores, generator),
        _protocols(scores, generator),
        _curves(histories),
        _photos(rows, generator),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text()}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _cards(scores: dict[str, Score], generator: str) -> str:
    """The numbers that a reader came for; those that were not measured are left out."""
    recall = _recall(scores)
    wanted = [
        ("model.mask_AP50", "AP50 of masks", "lead"),
        (f"model.mask_{recall}", f"{recall} of masks", "lead"),
        (f"gain.mask_{recall}", f"gain over {generator} in {recall}", ""),
        ("model.class_mask_AP50", "AP50 by class", ""),
        ("model.semantic_mIoU", "semantic mIoU", ""),
        ("model.panoptic_PQ", "panoptic quality", ""),
    ]
    cards = [
        f'<div class="card {kind}"><span class="soft">{escape(label)}</span><b>{_value(name, scores[name])}</b>'
        f'<span class="soft">{_interval(scores[name]) or "no interval"}</span></div>'
        for name, label, kind in wanted
        if name in scores
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _scores(scores: dict[str, Score], generator: str) -> str:
    """All makers of masks side by side; scores by size are folded away."""
    names = list(dict.fromkeys(flat.partition(".")[2] for flat in scores))
    overall = [name for name in names if not name.endswith(SIZES)]
    by_size = [name for size in SIZES for name in names if name.endswith(size)]
    return (
        f"<h2>Scores</h2><p>The masks that {escape(generator)} pools from the plain encoder, and those of the models "
        "that learned from such masks. By class: clusters taken for classes.</p>"
        + _table(overall, scores, generator)
        + (f"<details><summary>By size</summary>{_table(by_size, scores, generator)}</details>" if by_size else "")
    )


def _table(names: list[str], scores: dict[str, Score], generator: str) -> str:
    """A row a score, below the heading of its kind; bars of one kind share a scale."""
    makers = dict.fromkeys(flat.partition(".")[0] for flat in scores)
    titles = {maker: generator if maker == GENERATOR else maker for maker in makers}
    head = "".join(f'<th class="key {maker}">{escape(title)}</th>' for maker, title in titles.items())
    rows = []
    for prefix, heading in KINDS.items():
        of_kind = [name for name in names if _kind(name) == prefix]
        if not of_kind:
            continue
        marked = [scores[flat] for maker in MARKED for name in of_kind if (flat := f"{maker}.{name}") in scores]
        top = max([score.high or score.value for score in marked], default=0.0) or 1.0
        rows.append(f'<tr class="group"><td colspan="{len(makers) + 1}">{heading}</td><td>0 to {top:.0f} %</td></tr>')
        for name in of_kind:
            marks = [
                (maker, score.value, score.low, score.high)
                for maker in MARKED
                if (score := scores.get(f"{maker}.{name}"))
            ]
            cells = "".join(_cell(f"{maker}.{name}", scores) for maker in makers)
            label = name.removeprefix(prefix).replace("_", ", ")
            rows.append(f"<tr><td>{label}</td>{cells}<td>{interval_bars(marks, top)}</td></tr>")
    return f'<div class="wide"><table><tr><th></th>{head}<th></th></tr>{"".join(rows)}</table></div>'


def _protocols(scores: dict[str, Score], generator: str) -> str:
    """What makes the numbers comparable with others'."""
    lines = []
    for prefix, heading in KINDS.items():
        score = next((s for flat, s in scores.items() if flat.startswith(f"{MODEL}.{prefix}")), None)
        if score is None:
            continue
        lines.append((heading, f"{score.images} photos; {score.protocol}"))
        if score.mapping is not None:
            mapping = f"{score.mapping}, fitted on {score.fit_on}; {score.mapped_clusters} clusters have a class"
            lines.append((f"{heading}: clusters to classes", mapping))
    for maker, title in ((MODEL, "the model"), (GENERATOR, generator)):
        score = next((s for flat, s in scores.items() if flat.startswith(f"{maker}.")), None)
        if score is not None:
            lines.append((f"Rank of {title}'s masks", score.score_rule))
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(text)}</dd>' for term, text in lines)}</dl>"


def _curves(histories: dict[str, dict[str, Column]]) -> str:
    """One panel a logged loss, and the learning rate; one line a training step."""
    names = dict.fromkeys(name for columns in histories.values() for name in columns)
    shown = [name for name in names if name.startswith("loss") or name == "lr"]
    if not shown:
        return ""
    panels = []
    for name in shown:
        series = {run: columns.get(name, []) for run, columns in histories.items()}
        label = "learning rate" if name == "lr" else name.replace("_", ", ")
        panels.append(f'<div class="panel"><h3>{escape(label)}</h3>{curves(label, series)}</div>')
    keys = " &nbsp; ".join(f'<span class="key s{number}">{escape(run)}</span>' for number, run in enumerate(histories))
    return f'<h2>Learning</h2><p class="soft">{keys}</p><div class="curves">{"".join(panels)}</div>'


def _photos(rows: list[tuple[str, list[Panel]]], generator: str) -> str:
    if not rows:
        return ""
    blocks = []
    for name, panels in rows:
        figures = []
        for caption, panel in zip(CAPTIONS, panels, strict=True):
            text = escape(caption.format(generator=generator))
            overlap = "" if panel.mean_iou is None else f" · mean&nbsp;IoU&nbsp;{100 * panel.mean_iou:.0f}&nbsp;%"
            image = f'<img src="data:image/jpeg;base64,{panel.jpeg}" alt="{escape(name)}, {text}">'
            figures.append(f"<figure>{image}<figcaption>{text}{overlap}</figcaption></figure>")
        blocks.append(f'<div class="row">{"".join(figures)}</div>')
    return (
        "<h2>Photos</h2><p>Spread evenly over the set, not chosen. A thing keeps its colour in the first three "
        "pictures; the second and third show the mask of highest IoU for each thing, which is what recall measures. "
        "The last one shows the model's masks of highest score, without those mostly under better ones.</p>"
        + "".join(blocks)
    )


def _recall(scores: dict[str, Score]) -> str:
    """The name of the recall with the most masks: `AR100` where 100 are kept."""
    limits = [name.removeprefix("model.mask_AR") for name in scores if name.startswith("model.mask_AR")]
    return f"AR{max([int(limit) for limit in limits if limit.isdigit()], default=100)}"


def _kind(name: str) -> str:
    return next(prefix for prefix in KINDS if name.startswith(prefix))


def _cell(name: str, scores: dict[str, Score]) -> str:
    if name not in scores:
        return '<td class="soft">&ndash;</td>'
    return f"<td>{_value(name, scores[name])} <small>{_interval(scores[name])}</small></td>"


def _value(name: str, score: Score) -> str:
    """The number; a gain with its sign."""
    return f"{score.value:+z.1f}" if name.startswith("gain.") else f"{score.value:.1f}"


def _interval(score: Score) -> str:
    return "" if score.low is None else f"{score.low:z.1f} to {score.high:z.1f}"
