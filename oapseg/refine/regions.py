"""Connected parts, holes, copies and small masks.

Parts and holes are found by scipy on the CPU; what comes back lies on the device of what came in.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import ndimage
from torch import Tensor

from oapseg.masks import SEMANTIC, Masks
from oapseg.masks import area as areas
from oapseg.masks import iou as overlaps

SIDE_BY_SIDE = np.array([[[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3])
ROUNDING = 1e-6  # cells by which a product may exceed the whole number that it is: 0.07 x 100 > 7


def components(masks: Bool[Tensor, "S h w"]) -> tuple[Bool[Tensor, "T h w"], Int[Tensor, " T"]]:
    """The parts of each mask whose cells touch by a side, and the mask that each came from.

    Parts come in the order of their masks and, within one, of their first cell, row by row. An empty mask has none.
    """
    labels, _ = ndimage.label(masks.cpu().numpy(), SIDE_BY_SIDE)
    names, first = np.unique(labels, return_index=True)
    names, first = names[names > 0], first[names > 0]
    order = first.argsort()
    source = torch.from_numpy(first[order] // max(1, labels[0].size if len(labels) else 1))
    parts = torch.from_numpy(labels)[source] == torch.from_numpy(names[order])[:, None, None]
    return parts.to(masks.device), source.to(masks.device)


def fill_holes(masks: Bool[Tensor, "S h w"]) -> Bool[Tensor, "S h w"]:
    """Masks without holes: cells outside that no path of cells side by side joins to the border become part of it."""
    framed = np.pad(~masks.cpu().numpy(), ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, _ = ndimage.label(framed, SIDE_BY_SIDE)
    outside = (labels == labels[:, :1, :1])[:, 1:-1, 1:-1]
    return torch.from_numpy(~outside).to(masks.device)


def drop_duplicates(masks: Bool[Tensor, "S h w"], iou: float) -> Int[Tensor, " T"]:
    """Positions of the masks that are kept: one whose IoU with an earlier kept one is above `iou` is not."""
    alike = (overlaps(masks, masks) > iou).tolist()
    kept: list[int] = []
    for index in range(len(masks)):
        if not any(alike[index][earlier] for earlier in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def drop_small(masks: Bool[Tensor, "S h w"], area: int) -> Int[Tensor, " T"]:
    """Positions of the masks of at least `area` cells."""
    return (areas(masks) >= area).nonzero()[:, 0]


@dataclass(frozen=True)
class Choice:
    """Which instance masks of a photo are kept, and whether with holes, by section `refine`; semantic masks stay.

    Holes are filled first, which leaves a mask's features as they were; then too small masks go, then copies, of which
    the one with the better score stays, the first of equal ones. An area is one on the masks' own grid, which spans
    the photo. Holes of semantic masks are often things that stand before them.
    """

    min_area: float  # of the photo's; 0 drops none
    max_iou: float  # with a mask that is kept; 1 drops none
    fill_holes: bool = False

    def __call__(self, masks: Masks) -> Masks:
        """The masks that are kept, in the order given."""
        if self.fill_holes:
            instance = (masks.kind != SEMANTIC)[:, None, None]
            masks = Masks(torch.where(instance, fill_holes(masks.masks), masks.masks), *masks[1:])
        order = masks.scores.argsort(descending=True, stable=True)
        own = order[masks.kind[order] != SEMANTIC]
        cells = math.ceil(self.min_area * math.prod(masks.masks.shape[1:]) - ROUNDING)
        own = own[drop_small(masks.masks[own], cells)]
        own = own[drop_duplicates(masks.masks[own], self.max_iou)]
        kept = masks.kind == SEMANTIC
        kept[own] = True
        return masks.select(kept)
