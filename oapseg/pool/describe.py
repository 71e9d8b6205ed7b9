"""What generators share at their two ends: checked features of photos in groups, and masks with features."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, Masks
from oapseg.pool.generator import check_patches, full_precision

TOGETHER = 16  # photos of one grid that a GPU works on at once; their N x N matrices take 0.6 GB at 56 x 56


def grouped(patches: list[Patches]) -> Iterator[Float[Tensor, "B N C"]]:
    """Features of all photos in their order, together where they lie on a GPU and share a grid; a CPU gains nothing.

    Errors: as `check_patches`.
    """
    check_patches(patches)
    group: list[Float[Tensor, "N C"]] = []
    for index, photo in enumerate(patches):
        group.append(photo.features.detach().float())
        last = index == len(patches) - 1 or patches[index + 1].grid != photo.grid
        if last or len(group) == TOGETHER or not photo.features.is_cuda:
            yield torch.stack(group)
            group = []


def described(masks: Bool[Tensor, "S h w"], patches: Patches, level: Int[Tensor, " S"] | None = None) -> Masks:
    """Masks on the photo's grid or a finer one, each with the normalised mean of its patches' features, scores 1."""
    features = patches.features.detach().float()
    share = masks.float()
    if masks.shape[1:] != patches.grid:
        share = F.adaptive_avg_pool2d(share[:, None], patches.grid)[:, 0]
    with full_precision(features.device):
        mean = F.normalize(share.flatten(1) @ features, dim=1)
    none = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    return Masks(
        masks,
        none if level is None else level,
        torch.full_like(none, INSTANCE),
        mean,
        torch.ones(len(masks), device=masks.device),
    )
