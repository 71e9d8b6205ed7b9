"""What masks are worth without a label: coverage, edges, stability, agreement between levels.

Pure functions of masks on a grid of cells, on the masks' device; cheap enough for every step of a training. Each is a
share in [0, 1], higher better, and NaN where there is nothing to measure it on. None sees what a thing is, and all but
`outline` are best for a few large masks, so a tuner that follows them is to be judged where labels exist.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from oapseg.masks import Masks, iou, resize

STRONG = 0.5  # rank above which an edge is one that masks should follow
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


class Edges(NamedTuple):
    """How strong a photo's edge is between neighbouring cells: its rank among all pairs of the photo, 0 to 1."""

    across: Float[Tensor, "h across"]  # between a cell and the one to its right
    down: Float[Tensor, "down w"]  # and the one below


def on_grid(masks: Masks, grid: tuple[int, int]) -> Masks:
    """Masks at the photo's size, as some generators refine them, on the grid of its patches; others as they are."""
    if masks.masks.shape[1:] == grid:
        return masks
    return Masks(resize(masks.masks, *grid), masks.level, masks.kind, masks.features, masks.scores)


def coverage(masks: Bool[Tensor, "S h w"]) -> float:
    """The share of the cells that lie in at least one mask."""
    return float(masks.any(0).float().mean()) if masks.shape[0] else 0.0


def photo_edges(image: UInt8[Tensor, "_H _W 3"], grid: tuple[int, int], cell_px: int = 8) -> Edges:
    """Edges of a photo of any size, looked at with `cell_px` pixels a cell.

    An edge counts where it runs along the border of two cells, or up to half a cell beside it: the mean of the
    gradient along the border, the strongest of the places beside. Ranks make photos of any contrast alike.
    """
    height, width = grid
    pixels = image.permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, (height * cell_px, width * cell_px), mode="bilinear", antialias=True)
    luma = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    across = _strength(luma, cell_px)
    down = _strength(luma.mT, cell_px).mT
    ranks = _ranks(torch.cat([across.flatten(), down.flatten()]))
    return Edges(ranks[: across.numel()].view_as(across), ranks[across.numel() :].view_as(down))


def edge_alignment(masks: Bool[Tensor, "S h w"], edges: Edges) -> float:
    """The mean rank of the photo's edges under the masks' boundaries; one half is chance.

    Every mask's boundary counts by its length; the border of the photo is none.
    """
    across, down = masks[:, :, 1:] ^ masks[:, :, :-1], masks[:, 1:] ^ masks[:, :-1]
    length = across.sum() + down.sum()
    total = (across * edges.across).sum() + (down * edges.down).sum()
    return float(total / length)


def outline(masks: Bool[Tensor, "S h w"], edges: Edges) -> float:
    """The share of the photo's stronger half of edges that some mask's boundary follows.

    What `edge_alignment` is the precision of, this is the recall of: masks that leave things out lose it.
    """
    across, down = (masks[:, :, 1:] ^ masks[:, :, :-1]).any(0), (masks[:, 1:] ^ masks[:, :-1]).any(0)
    strong = [each > STRONG for each in edges]
    found = (across & strong[0]).sum() + (down & strong[1]).sum()
    return float(found / (strong[0].sum() + strong[1].sum()))


def agreement(a: Bool[Tensor, "S h w"], b: Bool[Tensor, "T h w"]) -> float:
    """How well two sets of masks find each other: the mean IoU of each mask with the best of the other set.

    The two directions count alike. 0 where one set is empty, NaN where both are.
    """
    if not len(a) or not len(b):
        return float("nan") if len(a) == len(b) else 0.0
    overlap = iou(a, b)
    return float((overlap.amax(1).mean() + overlap.amax(0).mean()) / 2)


def flip_stability(masks: Bool[Tensor, "S h w"], of_flipped: Bool[Tensor, "T h w"]) -> float:
    """Agreement of a photo's masks with those of its mirror image, turned back."""
    return agreement(masks, of_flipped.flip(2))


def crop_stability(
    masks: Bool[Tensor, "S h w"], of_crop: Bool[Tensor, "T h2 w2"], box: tuple[float, float, float, float], least: int
) -> float:
    """Agreement of a photo's masks, cut to a crop, with the masks of the crop alone.

    `box` is (top, left, bottom, right) of the crop in shares of the photo. Masks of fewer than `least` cells are left
    out: a crop cuts slivers.
    """
    height, width = of_crop.shape[1:]
    cut = _cut(masks, box, height, width)
    return agreement(cut[cut.flatten(1).sum(1) >= least], of_crop[of_crop.flatten(1).sum(1) >= least])


def level_agreement(masks: Masks) -> float:
    """How much of a level's masks the next level keeps: the mean IoU of each mask with the next level's best.

    Over masks of each kind apart; NaN where no kind has two levels. Regions that live through many thresholds are those
    that the photo has, not the threshold.
    """
    values = []
    for kind in masks.kind.unique():
        levels = masks.level[masks.kind == kind].unique()
        for level, following in pairwise(levels):
            of_kind = masks.kind == kind
            now, later = (masks.masks[of_kind & (masks.level == each)] for each in (level, following))
            values.append(iou(now, later).amax(1))
    return float(torch.cat(values).mean()) if values else float("nan")


def _strength(luma: Float[Tensor, "1 1 H W"], cell_px: int) -> Float[Tensor, "h across"]:
    """The gradient across every border between a cell and the one to its right."""
    gradient = F.pad((luma[..., 1:] - luma[..., :-1]).abs(), (0, 1))
    along = F.avg_pool2d(gradient, (cell_px, 1))
    start = cell_px // 2
    beside = along[..., start : along.shape[-1] - (cell_px - start)]
    return F.max_pool2d(beside, (1, cell_px))[0, 0] if beside.shape[-1] else beside[0, 0]


def _ranks(values: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
    """The share of other values that are below, equal ones counted half."""
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values, side="left")
    upto = torch.searchsorted(ordered, values, side="right") - 1
    return (below + upto) / max(2 * (len(values) - 1), 1)


def _cut(
    masks: Bool[Tensor, "S h w"], box: tuple[float, float, float, float], height: int, width: int
) -> Bool[Tensor, "S h2 w2"]:
    """The part of masks in a box, by the nearest cell."""
    top, left, bottom, right = box
    rows = top + (torch.arange(height, device=masks.device) + 0.5) / height * (bottom - top)
    columns = left + (torch.arange(width, device=masks.device) + 0.5) / width * (right - left)
    row = (rows * masks.shape[1]).long().clamp(max=masks.shape[1] - 1)
    column = (columns * masks.shape[2]).long().clamp(max=masks.shape[2] - 1)
    return masks[:, row][:, :, column]
