"""Patch features that look like a photo's: smooth regions, each with its feature, and noise."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from oapseg.encode.patches import Patches


def smooth_field(
    height: int, width: int, channels: int, *, noise: float, seed: int, regions: int = 6, cell: int = 4
) -> Float[Tensor, "N C"]:
    """Unit features of a grid whose regions are about `cell` patches or more wide."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, regions, height // cell + 2, width // cell + 2, generator=random)
    share = F.interpolate(coarse, (height, width), mode="bicubic")[0].flatten(1).T.mul(4).softmax(1)
    own = torch.randn(regions, channels, generator=random) + 0.5 * torch.randn(channels, generator=random)
    return F.normalize(share @ own + noise * torch.randn(height * width, channels, generator=random), dim=1)


def smooth_patches(height: int, width: int, channels: int, *, noise: float, seed: int) -> Patches:
    return Patches(smooth_field(height, width, channels, noise=noise, seed=seed), (height, width))
