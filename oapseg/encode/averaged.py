"""Patches whose features are the mean of several looks at a photo."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from oapseg.encode.encoder import Encoder
from oapseg.encode.patches import Patches


def averaged_patches(
    encoder: Encoder, images: list[UInt8[Tensor, "_H _W 3"]], image_px: int, scales: Sequence[int], flip: bool
) -> list[Patches]:
    """Each photo at `image_px` and further `scales`, with `flip` mirrored too: their mean, on the grid of `image_px`.

    Features are L2-normalised again; one look alone is `encoder.patches`.
    """
    first = encoder.patches(images, image_px)
    looks = [(side_px, mirrored) for side_px in (image_px, *scales) for mirrored in (False, True)[: 1 + flip]]
    if len(looks) == 1:
        return first
    sums = torch.stack([each.features for each in first])
    for side_px, mirrored in looks[1:]:
        views = [image.flip(1) for image in images] if mirrored else images
        patches = encoder.patches(views, side_px)
        sums += torch.stack([_on_grid(each, first[0].grid, mirrored) for each in patches])
    return [each._replace(features=mean) for each, mean in zip(first, F.normalize(sums, dim=-1), strict=True)]


def _on_grid(patches: Patches, grid: tuple[int, int], mirrored: bool) -> Float[Tensor, "N C"]:
    """Features of a view on another grid, mirrored back."""
    features = patches.features.T.unflatten(1, patches.grid)
    features = features.flip(-1) if mirrored else features
    if patches.grid != grid:
        features = F.interpolate(features[None], grid, mode="bilinear", align_corners=False)[0]
    return features.flatten(1).T
