"""Photos side by side: what was annotated, what the generator found, what the model finds."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from oapseg.masks import iou, rle_to_mask
from oapseg.report.overlay import overlay

SIDE_PX = 360  # longest side of a picture on the page
QUALITIES = (85, 75, 60, 45)  # of JPEG, tried from the best until the picture fits
RANKED_SHOWN = 12  # masks of the ranked picture
HIDDEN_SHARE = 0.5  # a ranked mask that shares more of itself with those above it is passed over


@dataclass(frozen=True)
class Panel:
    """One picture of a row: its JPEG as text, and the mean IoU of what it shows with the annotations."""

    jpeg: str
    mean_iou: float | None


def side_by_side(
    image: UInt8[Tensor, "H W 3"],
    annotations: list[dict[str, Any]],
    generator: list[dict[str, Any]],
    model: list[dict[str, Any]],
    max_bytes: int,
) -> list[Panel]:
    """The four `pictures` as JPEG, none larger than `max_bytes`."""
    drawn = pictures(image, annotations, generator, model)
    return [Panel(_jpeg(picture, max_bytes), mean_iou) for picture, mean_iou in drawn]


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
    truth = _masks([each for each in annotations if not each["iscrowd"]], size)
    drawn: list[tuple[Tensor, float | None]] = [(overlay(image, truth), None)]
    for results in (generator, model):
        masks, overlaps = best_for_each(truth, _masks(results, size))
        mean = float(overlaps.mean()) if len(overlaps) else None
        drawn.append((overlay(image, masks), mean))
    ranked = ranked_apart(_masks(sorted(model, key=lambda each: -each["score"]), size))
    return [*drawn, (overlay(image, ranked), None)]


def best_for_each(
    truth: Bool[Tensor, "S H W"], masks: Bool[Tensor, "T H W"]
) -> tuple[Bool[Tensor, "S H W"], Float[Tensor, " S"]]:
    """For each annotation the mask of highest IoU and that IoU; an empty mask where none meets it."""
    if masks.shape[0] == 0 or truth.shape[0] == 0:
        return torch.zeros_like(truth), torch.zeros(truth.shape[0])
    best = iou(truth, masks).max(1)
    return masks[best.indices] & (best.values > 0)[:, None, None], best.values


def ranked_apart(masks: Bool[Tensor, "S H W"]) -> Bool[Tensor, "T H W"]:
    """The first `RANKED_SHOWN` masks, in order, that are mostly not under those before them."""
    covered = torch.zeros(masks.shape[1:], dtype=torch.bool)
    shown: list[int] = []
    for index, mask in enumerate(masks):
        if len(shown) < RANKED_SHOWN and (mask & covered).sum() <= HIDDEN_SHARE * mask.sum():
            shown.append(index)
            covered |= mask
    return masks[shown]


def spread(count: int, total: int) -> list[int]:
    """Positions of `count` photos spread evenly over `total`."""
    count = min(count, total)
    return [index * total // count for index in range(count)]


def _masks(results: list[dict[str, Any]], size: tuple[int, int]) -> Bool[Tensor, "S H W"]:
    if not results:
        return torch.zeros(0, *size, dtype=torch.bool)
    return torch.stack([rle_to_mask(each["segmentation"]) for each in results])


def _jpeg(image: UInt8[Tensor, "H W 3"], max_bytes: int) -> str:
    """JPEG as base64 text, of the best quality that fits; halved where none does."""
    picture = Image.fromarray(image.numpy())
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    while True:
        for quality in QUALITIES:
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=quality, optimize=True)
            text = base64.b64encode(data.getvalue()).decode()
            if len(text) <= max_bytes or max(picture.size) <= 32:
                return text
        picture = picture.resize((max(picture.width // 2, 1), max(picture.height // 2, 1)), Image.Resampling.LANCZOS)
