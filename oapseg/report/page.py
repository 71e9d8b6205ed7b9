"""The page of a run: cards, tables, curves, clusters and photos as one HTML text."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from oapseg.evaluate.scores import GAIN, GENERATOR, MODEL, SIZES, Score
from oapseg.monitor.history import Column
from oapseg.report.breakdowns import breakdown_chapter, confusion_chapter, curve_chapter
from oapseg.report.chart import curves, interval_bars
from oapseg.report.exemplars import Cluster, naming_chapter
from oapseg.report.photos import Row, rows_html
from oapseg.report.published import published_chapter

STYLE = Path(__file__).with_name("page.css")
KINDS = {  # of scores, by how their names begin
    "mask_": "Masks",
    "box_": "Boxes",
    "class_mask_": "Masks by class",
    "class_box_": "Boxes by class",
    "semantic_": "Semantic",
    "panoptic_": "Panoptic",
    "saliency_": "Saliency",
    "concepts_": "Regions named one by one",
    "": "Other",  # what the others leave
}
MARKED = (GENERATOR, MODEL)  # drawn as bars


@dataclass(frozen=True)
class Content:
    """What the page of a run is made of. `details` are those of the step evaluate, photos by how they were chosen."""

    scores: dict[str, Score]
    details: dict[str, Any]
    histories: dict[str, dict[str, Column]]  # columns by training step
    photos: dict[str, list[Row]]
    clusters: list[Cluster]
    model: str  # folder of the model, as a command names it


def render(title: str, content: Content) -> str:
    """The whole page; chapters that there is nothing for are left out."""
    scores = content.scores
    generator = next((score.generator for score in scores.values() if score.generator), None) or "generator"
    benchmarks = dict.fromkeys(f"{score.images} photos of {score.benchmark}" for score in scores.values())
    details = content.details | {"titles": {GENERATOR: generator}}
    names = details["benchmark"]["class_names"]
    mapping = details["makers"].get(MODEL, {}).get("mapping", {})
    # Things come last: where both map a cluster, the class of its masks is said.
    mapped = {
        int(each): names[str(label)]
        for kind in ("semantic", "instance")
        for each, label in mapping.get(kind, {}).items()
    }
    made_by = next((score.checkpoint for flat, score in scores.items() if flat.startswith(f"{MODEL}.")), None)
    return document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(", ".join(benchmarks))}. All scores in percent, with 95&nbsp;% intervals by the '
            "bootstrap over photos.</p>",
            _cards(scores, generator),
            _scores(scores, generator),
            _protocols(scores, generator),
            _settings(details),
            published_chapter(scores, generator, KINDS),
            curve_chapter(details),
            breakdown_chapter(details, scores),
            confusion_chapter(details),
            _photos(content.photos),
            naming_chapter(content.clusters, mapped, content.model, made_by or ""),
            _curves(content.histories),
        ],
    )


def document(title: str, body: list[str]) -> str:
    """One file that needs no other, light and dark."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text()}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
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
        ("model.saliency_max_F_beta", "maximal F of the foreground", ""),
        ("model.saliency_instance_mIoU", "mean IoU of instances", ""),
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
    makers = sorted({flat.partition(".")[0] for flat in scores}, key=_place)
    titles = {maker: generator if maker == GENERATOR else maker for maker in makers}
    head = "".join(f'<th class="key {maker}">{escape(title)}</th>' for maker, title in titles.items())
    rows = []
    for heading, prefix, of_kind in kinds_of(names):
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
            label = name.removeprefix(prefix).replace("_", " ")
            rows.append(f"<tr><td>{label}</td>{cells}<td>{interval_bars(marks, top)}</td></tr>")
    return f'<div class="wide"><table><tr><th></th>{head}<th></th></tr>{"".join(rows)}</table></div>'


def _protocols(scores: dict[str, Score], generator: str) -> str:
    """What makes the numbers comparable with others'."""
    lines = []
    for prefix, heading in KINDS.items():
        of_kind = [flat for flat in scores if _kind(flat.partition(".")[2]) == prefix]
        if not of_kind:
            continue
        score = scores[next((flat for flat in of_kind if flat.startswith(f"{MODEL}.")), of_kind[0])]
        lines.append((heading, f"{score.images} photos; {score.protocol}"))
        if score.mapping is not None:
            mapped = "" if score.mapped_clusters is None else f"; {score.mapped_clusters} clusters have a class"
            lines.append((f"{heading}: clusters to classes", f"{score.mapping}, fitted on {score.fit_on}{mapped}"))
    for maker, title in ((MODEL, "the model"), (GENERATOR, generator)):
        first = next((s for flat, s in scores.items() if flat.startswith(f"{maker}.")), None)
        if first is not None:
            lines.append((f"Rank of {title}'s masks", first.score_rule))
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(text)}</dd>' for term, text in lines)}</dl>"


def _settings(details: dict[str, Any]) -> str:
    """Every setting that the scores were made with: section `evaluate`, as the benchmark's protocol changed it."""
    settings = details["scored_by"]["evaluate"]
    rows = [f"<dt>{escape(key)}</dt><dd>{escape(plain(value))}</dd>" for key, value in settings.items()]
    return f"<details><summary>Settings of the scores</summary><dl>{''.join(rows)}</dl></details>"


def plain(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(each)}" for key, each in value.items())
    return ", ".join(map(plain, value)) if isinstance(value, list) else "none" if value is None else str(value)


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


def _photos(photos: dict[str, list[Row]]) -> str:
    if not any(photos.values()):
        return ""
    blocks = [f"<h3>{escape(how)}</h3>{rows_html(rows)}" for how, rows in photos.items() if rows]
    return (
        "<h2>Photos</h2><p>A thing, or a class, keeps its colour from picture to picture. The best mask for a thing is "
        "the one of highest IoU, which is what recall measures; the last picture of four shows the masks that the "
        "model scores highest, without those mostly under better ones.</p>" + "".join(blocks)
    )


def _recall(scores: dict[str, Score]) -> str:
    """The name of the recall with the most masks: `AR100` where 100 are kept."""
    limits = [name.removeprefix("model.mask_AR") for name in scores if name.startswith("model.mask_AR")]
    return f"AR{max([int(limit) for limit in limits if limit.isdigit()], default=100)}"


def kinds_of(names: list[str]) -> list[tuple[str, str, list[str]]]:
    """Names of scores by kind: its heading, how they begin, and the names."""
    by_kind = [
        (heading, prefix, [name for name in names if _kind(name) == prefix]) for prefix, heading in KINDS.items()
    ]
    return [each for each in by_kind if each[2]]


def _kind(name: str) -> str:
    return next(prefix for prefix in KINDS if name.startswith(prefix))


def _place(maker: str) -> tuple[int, str]:
    """The generator first, then other models, the model and what it gains."""
    ends = {GENERATOR: 0, MODEL: 2, GAIN: 3}
    return ends.get(maker, 1), maker


def _cell(name: str, scores: dict[str, Score]) -> str:
    if name not in scores:
        return '<td class="soft">&ndash;</td>'
    return f"<td>{_value(name, scores[name])} <small>{_interval(scores[name])}</small></td>"


def _value(name: str, score: Score) -> str:
    """The number; a gain with its sign."""
    deviation = "" if score.deviation is None else f" ± {score.deviation:.1f}"
    return (f"{score.value:+z.1f}" if name.startswith("gain.") else f"{score.value:.1f}") + deviation


def _interval(score: Score) -> str:
    return "" if score.low is None else f"{score.low:z.1f} to {score.high:z.1f}"
