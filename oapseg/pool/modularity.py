"""Modularity of soft groups of patches: what the Adaptive Concept Generator learns from (ACSeg, section 3.4)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def assignment(features: Float[Tensor, "B N C"], concepts: Float[Tensor, "B K C"]) -> Float[Tensor, "B N K"]:
    """Cosine of each patch with each concept, -1 to 1 (Eq. 5)."""
    return F.normalize(features, dim=2) @ F.normalize(concepts, dim=2).mT


def modularity_loss(features: Float[Tensor, "B N C"], strength: Float[Tensor, "B N K"]) -> Float[Tensor, ""]:
    """Minus the modularity of each photo's patches (Eq. 7-10), mean over the photos; -1 to 1 for hard assignments.

    `strength` is how much a patch belongs to each concept; below zero counts as zero. A pair belongs together as much
    as the one concept that it shares most lets it (Eq. 9), and only that concept learns from the pair.
    """
    unit = F.normalize(features, dim=2)
    affinity = (unit @ unit.mT).clamp(min=0)
    degree = affinity.sum(2)
    total = degree.sum(1).clamp(min=torch.finfo(degree.dtype).tiny)  # 2m
    excess = affinity - degree[:, :, None] * degree[:, None, :] / total[:, None, None]  # w of Eq. 8
    positive = strength.clamp(min=0)
    shared = _most_shared(positive.detach())
    gained = torch.stack(
        [
            torch.einsum("bi,bij,bj->b", own, excess * (shared == concept), own)
            for concept, own in enumerate(positive.unbind(2))
        ]
    )
    return -(gained.sum(0) / total).mean()


def _most_shared(positive: Float[Tensor, "B N K"]) -> Tensor:
    """For each pair of patches the concept of the largest product, the first of equal ones: B x N x N, of one byte."""
    best, where = None, torch.zeros(1)
    for concept, own in enumerate(positive.unbind(2)):
        product = own[:, :, None] * own[:, None, :]
        if best is None:
            best, where = product, torch.zeros_like(product, dtype=torch.uint8)
            continue
        where[product > best] = concept
        best = torch.maximum(best, product)
    return where
