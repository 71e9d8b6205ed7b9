"""Photos side by side: what was annotated, what the generator found, what the models find."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from oapseg.evaluate.counts import VOID
from oapseg.masks import iou, rle_to_mask
from oapseg.report.jpeg import jpeg_text
from oapseg.report.overlay import colours, overlay

SIDE_PX = 360  # longest side of a picture on the page
RANKED_SHOWN = 12  # masks of the ranked picture
HIDDEN_SHARE = 0.5  # a ranked mask that shares more of itself with those above it is passed over
RECTANGLE = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Panel:
    """One picture of a row: its JPEG as text, what it shows, and names with the colours that they have in it."""

    jpeg: str
    caption: str
    names: tuple[tuple[str, str], ...] = ()  # a name and its colour, as CSS has it


@dataclass(frozen=True)
class Row:
    """A photo with its pictures."""

    name: str
    said: str  # what came of it, in a few words
    panels: tuple[Panel, ...]


def rows_html(rows: list[Row]) -> str:
    """Rows below one another, each with the photo's name above its pictures."""
    blocks = []
    for row in rows:
        figures = []
        for panel in row.panels:
            image = f'<img src="data:image/jpeg;base64,{panel.jpeg}" alt="{escape(row.name)}, {escape(panel.caption)}">'
            names = "".join(
                f'<span class="key" style="--k:{colour}">{escape(name)}</span> ' for name, colour in panel.names
            )
            figures.append(f"<figure>{image}<figcaption>{escape(panel.caption)} {names}</figcaption></figure>")
        said = f' <span class="soft">{escape(row.said)}</span>' if row.said else ""
        blocks.append(
            f'<section class="photo"><p><b>{escape(row.name)}</b>{said}</p>'
            f'<div class="row of{len(figures)}">{"".join(figures)}</div></section>'
        )
    return "".join(blocks)


def side_by_side(
    image: UInt8[Tensor, "H W 3"],
    annotations: list[dict[str, Any]],
    generator: list[dict[str, Any]],
    model: list[dict[str, Any]],
    max_bytes: int,
    generator_name: str = "generator",
) -> tuple[Panel, ...]:
    """The four `pictures` as JPEG, none larger than `max_bytes`."""
    captions = (
        "annotated",
        f"{generator_name}, best mask for each",
        "model, best mask for each",
        "model, as it ranks them",
    )
    drawn = pictures(image, annotations, generator, model)
    shown = [
        _panel(picture, caption, mean, max_bytes) for caption, (picture, mean) in zip(captions, drawn, strict=True)
    ]
    ranked = sorted(model, key=lambda each: -each["score"])
    kept = ranked_apart(_masks(ranked, (image.shape[0], image.shape[1])))
    named = [ranked[place].get("cluster_name") for place in kept]
    tones = colours(len(named)).tolist()
    names = tuple((name, _css(tone)) for name, tone in zip(named, tones, strict=True) if name)
    return (*shown[:3], Panel(shown[3].jpeg, shown[3].caption, names))


def best_masks(
    image: UInt8[Tensor, "H W 3"],
    annotations: list[dict[str, Any]],
    makers: Mapping[str, list[dict[str, Any]]],
    max_bytes: int,
) -> tuple[Panel, ...]:
    """What was annotated, and for each maker of masks its best one for each annotation, in the same colours."""
    size = (image.shape[0], image.shape[1])
    truth = _truth(annotations, size)
    panels = [_panel(overlay(image, truth), "annotated", None, max_bytes)]
    for name, results in makers.items():
        masks, overlaps = best_for_each(truth, _masks(results, size))
        panels.append(_panel(overlay(image, masks), name, _mean(overlaps), max_bytes))
    return tuple(panels)


def class_maps(
    image: UInt8[Tensor, "H W 3"],
    truth: Int[np.ndarray, "H W"],
    makers: Mapping[str, Int[np.ndarray, "H W"]],
    class_names: Mapping[int, str],
    max_bytes: int,
) -> tuple[Panel, ...]:
    """The true class at each pixel and each maker's, a colour a class; what has none stays as it is."""
    maps = {"labelled": truth, **makers}
    present = sorted({int(each) for labels in maps.values() for each in np.unique(labels)} - {VOID})
    tones = {each: _css(tone) for each, tone in zip(present, colours(len(present)).tolist(), strict=True)}
    panels = []
    for caption, labels in maps.items():
        masks = torch.from_numpy(
            np.stack([labels == each for each in present]) if present else np.zeros((0, *labels.shape), bool)
        )
        largest = sorted(
            (int(each) for each in np.unique(labels) if each != VOID), key=lambda each: -(labels == each).sum()
        )
        names = tuple((class_names.get(each, str(each)), tones[each]) for each in largest[:RANKED_SHOWN])
        jpeg = jpeg_text(overlay(image, masks).numpy(), max_bytes, SIDE_PX)
        panels.append(Panel(jpeg, caption, names))
    return tuple(panels)


def pictures(
    image: UInt8[Tensor, "H W 3"],
    annotations: list[dict[str, Any]],
    generator: list[dict[str, Any]],
    model: list[dict[str, Any]],
) -> list[tuple[UInt8[Tensor, "H W 3"], float | None]]:
    """Annotations; the generator's best mask for each; the model's; the model's masks as it ranks them.

    One annotation has one colour in the first three. Beside the second and third, their mean IoU with the annotations.
    """
    size = (image.shape[0], image.shape[1])
    truth = _truth(annotations, size)
    drawn: list[tuple[Tensor, float | None]] = [(overlay(image, truth), None)]
    for results in (generator, model):
        masks, overlaps = best_for_each(truth, _masks(results, size))
        drawn.append((overlay(image, masks), _mean(overlaps)))
    ranked = _masks(sorted(model, key=lambda each: -each["score"]), size)
    return [*drawn, (overlay(image, ranked[ranked_apart(ranked)]), None)]


def best_for_each(
    truth: Bool[Tensor, "S H W"], masks: Bool[Tensor, "T H W"]
) -> tuple[Bool[Tensor, "S H W"], Float[Tensor, " S"]]:
    """For each annotation the mask of highest IoU and that IoU; an empty mask where none meets it."""
    if masks.shape[0] == 0 or truth.shape[0] == 0:
        return torch.zeros_like(truth), torch.zeros(truth.shape[0])
    best = iou(truth, masks).max(1)
    return masks[best.indices] & (best.values > 0)[:, None, None], best.values


def ranked_apart(masks: Bool[Tensor, "S H W"]) -> list[int]:
    """The first `RANKED_SHOWN` masks, in order, that are mostly not under those before them."""
    covered = torch.zeros(masks.shape[1:], dtype=torch.bool)
    shown: list[int] = []
    for index, mask in enumerate(masks):
        if len(shown) < RANKED_SHOWN and (mask & covered).sum() <= HIDDEN_SHARE * mask.sum():
            shown.append(index)
            covered |= mask
    return shown


def spread(count: int, total: int) -> list[int]:
    """Positions of `count` photos spread evenly over `total`."""
    count = min(count, total)
    return [index * total // count for index in range(count)]


def extremes(values: Mapping[int, float | None], count: int) -> dict[str, list[int]]:
    """The keys of the `count` best, middle and worst values, best first in each, none of them twice."""
    ranked = sorted(
        (key for key, value in values.items() if value is not None), key=lambda key: (-_known(values[key]), key)
    )
    count = min(count, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    return {
        "best": ranked[:count],
        "median": ranked[middle : middle + count],
        "worst": ranked[len(ranked) - count :],
    }


def _known(value: float | None) -> float:
    return 0.0 if value is None else value


def _truth(annotations: list[dict[str, Any]], size: RECTANGLE) -> Bool[Tensor, "S H W"]:
    return _masks([each for each in annotations if not each["iscrowd"] and "segmentation" in each], size)


def _masks(results: list[dict[str, Any]], size: RECTANGLE) -> Bool[Tensor, "S H W"]:
    if not results:
        return torch.zeros(0, *size, dtype=torch.bool)
    return torch.stack([rle_to_mask(each["segmentation"]) for each in results])


def _mean(overlaps: Float[Tensor, " S"]) -> float | None:
    return float(overlaps.mean()) if len(overlaps) else None


def _panel(picture: UInt8[Tensor, "H W 3"], caption: str, mean_iou: float | None, max_bytes: int) -> Panel:
    overlap = "" if mean_iou is None else f" · mean IoU\N{NO-BREAK SPACE}{100 * mean_iou:.0f}\N{NO-BREAK SPACE}%"
    return Panel(jpeg_text(picture.numpy(), max_bytes, SIDE_PX), caption + overlap)


def _css(tone: list[int]) -> str:
    return "#" + "".join(f"{each:02x}" for each in tone)
