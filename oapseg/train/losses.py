"""Mask losses on sampled points, as Mask2Former has them, and objectness."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor


def sample_points(masks: Float[Tensor, "M h w"], points_xy: Float[Tensor, "M P 2"]) -> Float[Tensor, "M P"]:
    """Bilinear values of each mask at its own points, xy in [0, 1]."""
    return F.grid_sample(masks[:, None], 2 * points_xy[:, None] - 1, mode="bilinear", align_corners=False)[:, 0, 0]


@torch.no_grad()
def uncertain_points(
    mask_logits: Float[Tensor, "M h w"], points: int, *, oversample: float, importance: float, generator: Generator
) -> Float[Tensor, "M P 2"]:
    """The `importance` share where a prediction is least sure of `oversample` times as many; the rest at random."""
    count, device = mask_logits.shape[0], mask_logits.device
    candidates = torch.rand(count, int(points * oversample), 2, device=device, generator=generator)
    doubt = -sample_points(mask_logits, candidates).abs()
    chosen = doubt.topk(int(points * importance), dim=1).indices
    sure = torch.rand(count, points - chosen.shape[1], 2, device=device, generator=generator)
    return torch.cat([candidates.gather(1, chosen[..., None].expand(-1, -1, 2)), sure], 1)


def dice_loss(point_logits: Float[Tensor, "M P"], point_targets: Float[Tensor, "M P"]) -> Float[Tensor, " M"]:
    """1 - Dice over the points of each pair."""
    probability = point_logits.sigmoid()
    shared = (probability * point_targets).sum(1)
    return 1 - (2 * shared + 1) / (probability.sum(1) + point_targets.sum(1) + 1)


def mask_loss(point_logits: Float[Tensor, "M P"], point_targets: Float[Tensor, "M P"]) -> Float[Tensor, " M"]:
    """Binary cross-entropy, mean over the points of each pair."""
    return F.binary_cross_entropy_with_logits(point_logits, point_targets, reduction="none").mean(1)


def objectness_loss(objectness: Float[Tensor, "B Q"], matched: Float[Tensor, "B Q"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of "this query has a mask", mean over all queries."""
    return F.binary_cross_entropy_with_logits(objectness, matched)
