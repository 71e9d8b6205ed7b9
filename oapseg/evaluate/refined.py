"""What is seen in a photo, refined by a dense CRF at the photo's size."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from oapseg.masks import INSTANCE, iou
from oapseg.model.predicted import Predicted
from oapseg.refine.crf import CRFOnPhoto
from oapseg.refine.regions import fill_holes

UNCHANGED = 0.5  # IoU of a mask before and after under which it is dropped (MaskCut)

Placed = tuple[int, Bool[Tensor, "H W"]]  # a mask's position or a region's cluster, and where it is


def masks_and_regions(predicted: Predicted, field: CRFOnPhoto | None) -> tuple[Iterator[Placed], Iterator[Placed]]:
    """The masks of a photo and its regions, at its size, one at a time; as they are where there is no field."""
    if field is None:
        return ((index, predicted.mask(index)) for index in range(len(predicted.scores))), predicted.regions()
    return _masks(predicted, field), _regions(predicted, field)


def _masks(predicted: Predicted, field: CRFOnPhoto) -> Iterator[Placed]:
    """Each mask alone against the background, less those that turn into something else.

    Holes of instances are filled; those of semantic masks are often things that stand before them.
    """
    coming = (predicted.mask(index) for index in range(len(predicted.scores)))
    for index, (before, after) in enumerate(field.each(coming)):
        whole = fill_holes(after[None]) if predicted.kind[index] == INSTANCE else after[None]
        if iou(before[None], whole) >= UNCHANGED:
            yield index, whole[0]


def _regions(predicted: Predicted, field: CRFOnPhoto) -> Iterator[Placed]:
    """The clusters as labels that exclude each other, each place with the shares that they have in it."""
    if len(predicted.belonging_to):
        belonging = F.interpolate(predicted.belonging[None], field.grid, mode="bilinear", align_corners=False)[0]
        shares = belonging / belonging.sum(0).clamp(min=torch.finfo(torch.float32).tiny)
        winner = field.labels(shares).argmax(0)
        if field.grid != field.size:
            winner = F.interpolate(winner[None, None].float(), field.size, mode="nearest-exact")[0, 0].long()
        for index in winner.unique().tolist():
            yield int(predicted.belonging_to[index]), winner == index
