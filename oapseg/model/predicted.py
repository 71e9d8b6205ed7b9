"""What is seen in a photo, on a grid, and how it comes to the photo's own size within bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

STRIP_VALUES = 16_000_000  # in memory at once while places are given their cluster


class Predicted(NamedTuple):
    """What is seen in one photo: scored masks, best first, and to which cluster each place belongs.

    Both are on a grid, and come to the photo's own size one mask and one strip of rows at a time, so that memory does
    not grow with the number of masks times the photo.
    """

    soft: Float[Tensor, "S h w"]
    threshold: float  # a place is in a mask where `soft` is above it
    size: tuple[int, int]  # H, W of the photo
    scores: Float[Tensor, " S"]
    clusters: Int[Tensor, " S"]
    kind: Int[Tensor, " S"]  # 0 instance, 1 semantic
    belonging: Float[Tensor, "G h w"]  # to each of G clusters, the most wins; without clusters, nothing is said
    belonging_to: Int[Tensor, " G"]

    def mask(self, index: int) -> Bool[Tensor, "H W"]:
        """A mask at the photo's size; the soft values and not the mask are resized, so edges stay where they are."""
        return _resized(self.soft[index : index + 1], self.size)[0] > self.threshold

    def regions(self) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
        """Clusters and where they are, at the photo's size, disjoint."""
        if len(self.belonging_to):
            winner = torch.cat([strip.argmax(0).to(torch.int16) for strip in _strips(self.belonging, self.size)])
            for index in winner.unique().tolist():
                yield int(self.belonging_to[index]), winner == index


def _resized(soft: Float[Tensor, "S h w"], size: tuple[int, int]) -> Float[Tensor, "S H W"]:
    return F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0]


def _strips(soft: Float[Tensor, "S h w"], size: tuple[int, int]) -> Iterator[Float[Tensor, "S rows W"]]:
    """What `_resized` gives, some rows at a time."""
    height = soft.shape[1]
    rows = max(1, STRIP_VALUES // (soft.shape[0] * size[1]))
    across = F.interpolate(soft[None], (height, size[1]), mode="bilinear", align_corners=False)[0]
    for top in range(0, size[0], rows):
        middle = (torch.arange(top, min(top + rows, size[0]), device=soft.device) + 0.5) * height / size[0] - 0.5
        above = middle.clamp(0, height - 1).floor().long()
        share = (middle.clamp(0, height - 1) - above)[None, :, None]
        below = (above + 1).clamp(max=height - 1)
        yield across[:, above] * (1 - share) + across[:, below] * share
