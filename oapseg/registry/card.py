"""The model card: what a model is, how good, from what, and what it is not for."""

import re
from collections.abc import Iterable, Mapping

from oapseg.evaluate.scores import Score
from oapseg.registry.lineage import UNKNOWN, Lineage, set_name
from oapseg.shards.manifest import Manifest

SHOWN = (
    *("mask_AP", "mask_AP50", "mask_AR100", "box_AP", "box_AP50", "box_AR100", "class_mask_AP", "class_mask_AP50"),
    *("semantic_accuracy", "semantic_mIoU", "panoptic_PQ", "panoptic_SQ", "panoptic_RQ"),
)
GROUPS = {"generator": "pseudo-masks", "pretrained": "pretrained", "model": "model", "gain": "gain"}


SECTIONS = ("Data", "Scores", "Lineage", "Limits", "Licence")  # that a complete card has
NO_LICENCE = "not stated"


def model_card(
    name: str,
    benchmarks: Mapping[str, Mapping[str, Score]],
    manifests: Iterable[Manifest],
    lineage: Lineage,
    licences: Mapping[str, str],
) -> str:
    """The card as Markdown, with one benchmark short enough for the description of a registered version.

    `benchmarks` are the scores of each, by flat name; `licences` those of each set's photos, and of the encoder's.
    """
    return "\n\n".join(
        [
            f"# {name}",
            "A universal segmenter trained without labels: it learns to predict masks that Online Agglomerative "
            "Pooling makes of a self-supervised encoder's features. For each photo it gives instance and semantic "
            "masks, each with a score and a cluster.",
            "## Data",
            _data(manifests, lineage, licences),
            "## Scores",
            "Percent, with 95 % bootstrap intervals over the photos.",
            *(_scores(benchmark, scores) for benchmark, scores in benchmarks.items()),
            "## Lineage",
            _lineage(lineage),
            "## Limits",
            "- Clusters have names where people gave them; classes above come from the mapping printed with them.\n"
            "- A score ranks the masks of a photo; it is no calibrated probability.\n"
            "- The intervals are over photos of one set, not over seeds nor over other domains.\n"
            "- Not for decisions about people, and not where a missed thing does harm.",
            "## Licence",
            "Code: Apache-2.0. Weights: as the licences of the encoder and of the photos above allow; "
            f"the encoder's photos: {licences.get('encoder', NO_LICENCE)}.",
        ]
    )


def lacking(card: str) -> list[str]:
    """What a card lacks to be complete: a section, a score with its interval and protocol, a known commit."""
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    said = {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    absent = [f"section {section}" for section in SECTIONS if not said.get(section)]
    scores, lineage = said.get("Scores", ""), said.get("Lineage", "")
    if scores and not re.search(r"\d\.\d \(-?\d+\.\d to -?\d+\.\d\)", scores):
        absent.append("a score with its interval")
    if scores and not re.search(r"^- .+ photos of .+: .+", scores, flags=re.MULTILINE):
        absent.append("the protocol of its scores")
    if lineage and f"`{UNKNOWN}`" in lineage:
        absent.append("the commit")
    return absent


def _data(manifests: Iterable[Manifest], lineage: Lineage, licences: Mapping[str, str]) -> str:
    lines = ["| set | photos | source | labels | licence | version |", "|---|---|---|---|---|---|"]
    for manifest in manifests:
        name = set_name(manifest.location)
        labels = ", ".join(manifest.labels) or "none"
        versions = [lineage.data[name], *([lineage.dvc[name]] if name in lineage.dvc else [])]
        version = ", ".join(f"`{each[:19]}`" for each in versions)
        licence = licences.get(name, NO_LICENCE)
        lines.append(f"| {name} | {manifest.num_samples} | {manifest.source} | {labels} | {licence} | {version} |")
    return (
        "\n".join(lines) + "\n\nLabels are for scoring alone. The licence of each photo is in its shard, where known."
    )


def _scores(benchmark: str, scores: Mapping[str, Score]) -> str:
    """A table of the scores that were measured, and under it what makes them comparable."""
    own = {flat.partition(".")[2]: score for flat, score in scores.items() if flat.startswith("model.")}
    groups = {group: title for group, title in GROUPS.items() if any(flat.startswith(f"{group}.") for flat in scores)}
    lines = [
        f"| {benchmark} | {' | '.join(groups.values())} |",
        f"|---|{'---|' * len(groups)}",
    ]
    for name in (name for name in SHOWN if name in own):
        cells = [_cell(scores.get(f"{group}.{name}")) for group in groups]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    said = dict.fromkeys(_said(own[name]) for name in SHOWN if name in own)
    lines += ["", *(f"- {text}" for text in said)]
    for group in ("generator", "model"):
        if (score := next((s for flat, s in scores.items() if flat.startswith(f"{group}.")), None)) is not None:
            lines.append(f"- Rank of the masks ({GROUPS[group]}): {score.score_rule}.")
    return "\n".join(lines)


def _said(score: Score) -> str:
    mapped = "" if score.mapping is None else f" Clusters to classes: {score.mapping}, fitted on {score.fit_on}."
    return f"{score.benchmark}, {score.images} photos of {score.split}: {score.protocol}.{mapped}"


def _cell(score: Score | None) -> str:
    if score is None:
        return "-"
    return f"{score.value:.1f}" if score.low is None else f"{score.value:.1f} ({score.low:.1f} to {score.high:.1f})"


def _lineage(lineage: Lineage) -> str:
    changed = ", with uncommitted changes" if lineage.dirty else ""
    parts = [f"Code `{lineage.commit[:12]}`{changed}.", f"Parameters sha256 `{lineage.params_sha256[:12]}`."]
    parts += [f"Weights sha256 `{lineage.weights_sha256[:12]}`."]
    parts += [f"Parent's weights sha256 `{lineage.parent_sha256[:12]}`."] if lineage.parent_sha256 else []
    parts += [f"Pipeline run `{lineage.run}`."] if lineage.run else []
    parts += [f"Image `{lineage.image}`."] if lineage.image else []
    parts += [f"Revision of the data `{lineage.data_rev}`."] if lineage.data_rev else []
    return " ".join(parts)
