"""Boolean masks of one photo, with what a generator or a model knows of each."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask
from torch import Tensor

INSTANCE, SEMANTIC = 0, 1


class Masks(NamedTuple):
    """S masks of one photo on a grid of h x w cells (patches or pixels).

    `level` is the pooling layer that made a mask, counted from 1, and 0 where there is only one; of a trained model's
    masks it is the generation in their hierarchy (`refine.levels.Spans`). `kind` is `INSTANCE` or `SEMANTIC`;
    `features` are L2-normalised; `scores` rank the masks, higher first, and are 1 where a generator has no score of its
    own.
    """

    masks: Bool[Tensor, "S h w"]
    level: Int[Tensor, " S"]
    kind: Int[Tensor, " S"]
    features: Float[Tensor, "S C"]
    scores: Float[Tensor, " S"]

    def __len__(self) -> int:  # the number of masks, not of fields
        return int(self.masks.shape[0])

    def select(self, index: Tensor) -> "Masks":
        """The masks at `index` (positions or a boolean choice), in that order."""
        return Masks(*(field[index] for field in self))

    def to(self, device: torch.device | str) -> "Masks":
        return Masks(*(field.to(device) for field in self))


def empty_masks(height: int, width: int, channels: int, device: torch.device | str = "cpu") -> Masks:
    """No mask at all, with the shapes of a grid and a feature width."""
    none = torch.zeros(0, dtype=torch.long, device=device)
    return Masks(
        torch.zeros(0, height, width, dtype=torch.bool, device=device),
        none,
        none.clone(),
        torch.zeros(0, channels, device=device),
        torch.zeros(0, device=device),
    )


def area(masks: Bool[Tensor, "S h w"]) -> Int[Tensor, " S"]:
    """Number of cells of each mask."""
    return masks.flatten(1).sum(1)


def iou(a: Bool[Tensor, "S h w"], b: Bool[Tensor, "T h w"]) -> Float[Tensor, "S T"]:
    """Intersection over union of every pair; 0 for two empty masks."""
    a_flat, b_flat = a.flatten(1).float(), b.flatten(1).float()
    shared = a_flat @ b_flat.T
    union = a_flat.sum(1)[:, None] + b_flat.sum(1)[None, :] - shared
    return shared / union.clamp(min=1)


def overlap_decay(masks: Bool[Tensor, "S h w"], scores: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
    """How much each mask's score should count, in [0, 1], given better-scored masks that it overlaps.

    Matrix NMS with the linear kernel (SOLOv2, Eq. 3 and 4): a copy of a better mask comes to 0, a mask apart from all
    others stays at 1, and one whose rival is itself suppressed gets its due. Nothing is dropped, so recall stays.
    """
    if masks.shape[0] == 0:
        return scores.clone()
    order = scores.argsort(descending=True, stable=True)
    overlap = iou(masks[order], masks[order]).triu(1)
    worst = overlap.amax(0)
    decay = ((1 - overlap) / (1 - worst).clamp(min=1e-6)[:, None]).clamp(max=1)
    decayed = torch.empty_like(scores)
    decayed[order] = decay.amin(0).to(scores.dtype)
    return decayed


def best_of_each_kind(scores: Float[Tensor, " S"], kind: Int[Tensor, " S"], count: int) -> Int[Tensor, " T"]:
    """Positions of the `count` best masks of each kind, by falling score and then in the order given."""
    order = scores.argsort(descending=True, stable=True)
    place = torch.zeros_like(kind)
    for value in (INSTANCE, SEMANTIC):
        of_kind = kind[order] == value
        place[of_kind] = torch.arange(int(of_kind.sum()), device=place.device)
    return order[place < count]


def boxes_xyxy(masks: Bool[Tensor, "S h w"]) -> Int[Tensor, "S 4"]:
    """Tight boxes in cells, right and bottom exclusive; zeros for an empty mask."""
    rows, columns = masks.any(2), masks.any(1)
    height, width = masks.shape[1:]

    def span(hit: Tensor, size: int) -> tuple[Tensor, Tensor]:
        first = hit.int().argmax(1)
        last = size - hit.flip(1).int().argmax(1)
        return first, last

    top, bottom = span(rows, height)
    left, right = span(columns, width)
    boxes = torch.stack([left, top, right, bottom], 1)
    return boxes * rows.any(1, keepdim=True)


def resize(masks: Bool[Tensor, "S h w"], height: int, width: int) -> Bool[Tensor, "S H W"]:
    """Masks on another grid: bilinear, cut at one half, so that edges of coarse masks come out smooth."""
    if masks.shape[0] == 0:
        return masks.new_zeros(0, height, width)
    soft = F.interpolate(masks[None].float(), size=(height, width), mode="bilinear", align_corners=False)[0]
    return soft > 0.5


def mask_to_rle(mask: Bool[Tensor, "H W"]) -> dict[str, Any]:
    """COCO run-length encoding: `size` [H, W] and `counts` as text."""
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def rle_to_mask(rle: dict[str, Any]) -> Bool[Tensor, "H W"]:
    """The mask of a COCO run-length encoding, its counts text, bytes or a plain list."""
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *rle["size"])
    return torch.from_numpy(coco_mask.decode(rle).astype(bool))
