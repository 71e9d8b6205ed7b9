"""Photos whose objects are known: blocks of a grid with features of their own, and noise."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks, iou

Box = tuple[int, int, int, int]  # top, left, bottom, right, in patches


def planted(
    height: int, width: int, boxes: list[Box], *, channels: int = 32, noise: float = 0.1, seed: int = 0
) -> tuple[Patches, Bool[Tensor, "S h w"]]:
    """A background and a block a box, each of a direction at right angles to the others', and the blocks' masks."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(channels, len(boxes) + 1, generator=random))[0].T
    owner = torch.zeros(height, width, dtype=torch.long)
    for index, (top, left, bottom, right) in enumerate(boxes, start=1):
        owner[top:bottom, left:right] = index
    features = directions[owner.flatten()] + noise * torch.randn(height * width, channels, generator=random)
    truth = torch.stack([owner == index for index in range(1, len(boxes) + 1)])
    return Patches(F.normalize(features, dim=1), (height, width)), truth


def found_iou(masks: Masks, truth: Bool[Tensor, "S h w"]) -> list[float]:
    """How well the best mask fits each object."""
    return iou(truth, masks.masks).amax(1).tolist() if len(masks) else [0.0] * len(truth)
