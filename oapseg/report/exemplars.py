"""Clusters as rows of exemplars: the best masks of each, cut out, with a place to name what they have in common."""

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from html import escape
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from oapseg.evaluate.ground_truth import shard_labels
from oapseg.evaluate.predict import REGION
from oapseg.evaluate.predictions import Predictions
from oapseg.masks import boxes_xyxy, rle_to_mask
from oapseg.report.jpeg import jpeg_text
from oapseg.report.overlay import inner_edge
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos

SCRIPT: Final = Path(__file__).with_name("naming.js")
SIDE_PX: Final = 120  # longest side of an exemplar
MARGIN: Final = 0.15  # around the mask's box, as a share of its longer side
DIMMED: Final = 0.4  # of the light outside the mask
EDGE: Final = (255, 196, 0)
LETTERS: Final = 60  # of a name


class Cluster(NamedTuple):
    """A cluster of the model, as the predictions of a set of photos show it."""

    number: int
    name: str | None
    masks: int  # scored at least what counts
    pictures: list[str]  # JPEG as base64 text, best score first


class _Chosen(NamedTuple):
    score: float
    order: int  # less is earlier; makes ties plain
    photo: int
    result: dict[str, Any]


def most_used(
    manifest: Manifest, predictions: Predictions, *, clusters: int, each: int, min_score: float, max_bytes: int
) -> list[Cluster]:
    """The clusters with most masks scored at least `min_score`, with the best `each` masks, a photo at most once each.

    No picture takes more than `max_bytes`, unless even a small one does.
    """
    best, counts, names = _gathered(manifest, predictions, each, min_score)
    shown = sorted(best, key=lambda number: (-counts[number], number))[:clusters]
    wanted: dict[int, list[tuple[int, int]]] = {}
    ranked = {
        number: sorted(best[number].values(), key=lambda chosen: (-chosen.score, -chosen.order)) for number in shown
    }
    for number, members in ranked.items():
        for place, chosen in enumerate(members[:each]):
            wanted.setdefault(chosen.photo, []).append((number, place))
    pictures: dict[tuple[int, int], str] = {}
    order = sorted(wanted)
    for photo, sample in zip(order, Photos(manifest).each(order), strict=True):
        for number, place in wanted[photo]:
            mask = rle_to_mask(ranked[number][place].result["segmentation"])
            pictures[number, place] = jpeg_text(cut_out(sample.image, mask), max_bytes)
    return [
        Cluster(
            number,
            names.get(number),
            counts[number],
            [pictures[number, place] for place in range(len(ranked[number][:each]))],
        )
        for number in shown
    ]


def cut_out(image: UInt8[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]) -> UInt8[np.ndarray, "height width 3"]:
    """A mask and its surroundings, no side longer than `SIDE_PX`: the mask in full light, the rest dim."""
    left, top, right, bottom = (int(each) for each in boxes_xyxy(mask[None])[0])
    margin = 2 + round(MARGIN * max(bottom - top, right - left))
    rows = slice(max(top - margin, 0), bottom + margin)
    columns = slice(max(left - margin, 0), right + margin)
    light = Image.fromarray(image[rows, columns].numpy())
    scale = SIDE_PX / max(light.size)
    size = max(round(light.width * scale), 1), max(round(light.height * scale), 1)
    light = light.resize(size, Image.Resampling.LANCZOS)
    inside = Image.fromarray(mask[rows, columns].numpy()).convert("L").resize(size, Image.Resampling.BILINEAR)
    share = np.asarray(inside, dtype=np.float32)[..., None] / 255
    pixels = np.asarray(light, dtype=np.float32) * (DIMMED + (1 - DIMMED) * share)
    pixels[inner_edge(torch.from_numpy(share[..., 0] > 0.5), 1).numpy()] = EDGE
    return pixels.round().astype(np.uint8)


def naming_chapter(clusters: list[Cluster], classes: dict[int, str], model: str, made_by: str) -> str:
    """Rows of exemplars, each with a field for a name, and the names typed so far as a command to copy.

    `classes` are those that clusters are mapped to, `made_by` tells one model's page from another's.
    """
    if not clusters:
        return ""
    rows = []
    for cluster in clusters:
        mapped = f" · taken for {classes[cluster.number]}" if cluster.number in classes else ""
        said = f"{cluster.masks:,} mask{'s' * (cluster.masks != 1)}{mapped}"
        images = "".join(
            f'<img src="data:image/jpeg;base64,{jpeg}" alt="cluster {cluster.number}, exemplar {place}">'
            for place, jpeg in enumerate(cluster.pictures, 1)
        )
        rows.append(
            f'<div class="cluster"><label><span><b>Cluster {cluster.number}</b> <small>{escape(said)}</small></span>'
            f'<input type="text" name="{cluster.number}" value="{escape(cluster.name or "")}" maxlength="{LETTERS}" '
            'placeholder="what is it?" autocomplete="off" spellcheck="false"></label>'
            f'<div class="exemplars">{images}</div></div>'
        )
    named = {str(cluster.number): cluster.name for cluster in clusters if cluster.name}
    command = f"oapseg name-clusters {model} names.json"
    return (
        "<h2>Clusters</h2><p>The clusters with most masks, each with its best ones. What a row has in common is its "
        "name: type it, then save the names to the model, and predictions carry them from then on.</p>"
        f'<form id="naming" data-model="{escape(made_by)}">{"".join(rows)}'
        '<div class="card"><p>Save this as <a id="save" download="names.json">names.json</a>, then run '
        f'<code>{escape(command)}</code></p><textarea id="names" rows="6" readonly aria-label="names.json">'
        f"{escape(json.dumps(named, indent=1))}</textarea>"
        '<p><button type="button" id="copy">Copy</button> <span class="soft" id="said" role="status"></span></p></div>'
        f"</form>\n<script>\n{SCRIPT.read_text()}</script>"
    )


def _gathered(
    manifest: Manifest, predictions: Predictions, each: int, min_score: float
) -> tuple[dict[int, dict[int, _Chosen]], Counter[int], dict[int, str]]:
    """By cluster: its best masks by photo, how many masks count, and its name where it has one."""
    best: dict[int, list[tuple[float, int, int]]] = {}
    kept: dict[int, dict[int, _Chosen]] = {}
    counts: Counter[int] = Counter()
    names: dict[int, str] = {}
    order = count()
    for photo, results in _photos(manifest, predictions):
        tops: dict[int, _Chosen] = {}
        for result in results:
            number, score = result["category_id"], result["score"]
            if result["kind"] == REGION or score < min_score:
                continue
            counts[number] += 1
            if result.get("cluster_name"):
                names[number] = result["cluster_name"]
            if number not in tops or score > tops[number].score:
                tops[number] = _Chosen(score, -next(order), photo, result)
        for number, chosen in tops.items():
            heap = best.setdefault(number, [])
            members = kept.setdefault(number, {})
            heapq.heappush(heap, (chosen.score, chosen.order, photo))
            members[photo] = chosen
            if len(heap) > each:
                del members[heapq.heappop(heap)[2]]
    return kept, counts, names


def _photos(manifest: Manifest, predictions: Predictions) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The number and results of each photo that has any."""
    first = 0
    for number, size in enumerate(manifest.shard_sizes):
        found = predictions.part(number)
        for place, labels in enumerate(shard_labels(manifest, number)):
            if labels["image_id"] in found:
                yield first + place, found[labels["image_id"]]
        first += size
