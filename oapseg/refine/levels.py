"""Granularity: a cut through the hierarchy of a photo's masks, from parts to wholes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NESTED = 0.8  # share of a mask inside a larger one from which it is a part of it
APART = 0.3  # share of the smaller of two masks up to which they lie side by side; OAP's own are at 1 and 0
WORTHY = 0.5  # share of the score of the mask that holds it from which a mask is a part of it, and not a fault in it


class Forest(NamedTuple):
    """Masks that are parts of each other or lie side by side."""

    kept: Int[Tensor, " T"]  # positions among all masks, rising
    parent: Int[Tensor, " T"]  # position in `kept` of the smallest mask that holds this one and more; -1 for a root


def forest(masks: Bool[Tensor, "S h w"], scores: Float[Tensor, " S"]) -> Forest:
    """The hierarchy of masks by containment.

    Of two masks that overlap and are no part of each other, and of two that are almost the same without one being
    inside the other, the one with the better score stays, the first where scores are equal. So does a mask that scores
    far better than one inside it: without that, level 0 of a trained model had AP50 0.03 on 30 photos of the embedded
    sample, with it 10.5. Masks of an agglomeration, where regions only merge and all score alike, all stay.
    """
    flat = masks.flatten(1).float()
    shared = (flat @ flat.T).cpu()
    areas = shared.diagonal()
    smaller, larger = torch.minimum(areas[:, None], areas), torch.maximum(areas[:, None], areas)
    inside = shared / smaller.clamp(min=1)
    copy = (shared >= NESTED * larger) & ((inside < 1) | (smaller == larger))
    poor = (areas[:, None] > areas) & (scores.cpu() < WORTHY * scores.cpu()[:, None])
    agree = (inside <= APART) | ((inside >= NESTED) & ~copy & ~poor)
    chosen = areas > 0
    free = chosen.clone()
    for index in scores.argsort(descending=True, stable=True).tolist():
        if free[index]:
            free &= agree[index]
        else:
            chosen[index] = False
    kept = chosen.nonzero()[:, 0]
    inside, areas = inside[kept][:, kept], areas[kept]
    holds = (inside >= NESTED) & (areas[:, None] < areas)
    parent = torch.where(holds, areas, torch.inf).argmin(1) if len(kept) else kept
    return Forest(kept.to(masks.device), torch.where(holds.any(1), parent, -1).to(masks.device))


class Spans(NamedTuple):
    """From which level (with it) to which (without it) each mask is shown; a root's has no end.

    `generation` counts from 1, a mask without parts, up to wholes: one more than the highest of a mask's parts. Of a
    mask that is in no hierarchy, since a better one stands for it, it is 0 and the span empty.
    """

    generation: Int[Tensor, " S"]
    begin: Float[Tensor, " S"]
    end: Float[Tensor, " S"]

    def at(self, level: float) -> Bool[Tensor, " S"]:
        """Whether each mask is shown at a level."""
        return (self.begin <= level) & (level < self.end)


def spans(
    masks: Bool[Tensor, "S h w"], made_at: Int[Tensor, " S"], kind: Int[Tensor, " S"], scores: Float[Tensor, " S"]
) -> Spans:
    """Where masks are between level 0 (parts: masks without parts) and 1 (wholes: parts of nothing).

    On the way up a part gives way to the mask that holds it, at the layer in which that one was made where `made_at`
    says so (OAP: 1 is the first, and the photo's last one is level 1), else at its place between leaf and root, all
    steps of one length. So what the parts cover is covered at each level. Masks of one kind only hold each other.
    """
    begin = torch.full(masks.shape[:1], torch.inf, dtype=torch.float64, device=masks.device)
    found = Spans(torch.zeros_like(kind), begin, begin.clone())
    for value in kind.unique():
        own = (kind == value).nonzero()[:, 0]
        kept, parent = forest(masks[own], scores[own])
        height, depth = _height_and_depth(parent)
        place = height.double() / (height + depth).clamp(min=1)
        layer = made_at[own][kept]
        if (layer > 0).all() and (layer[parent] > layer)[parent >= 0].all():
            place = torch.where(height > 0, (layer - 1).double() / (made_at.amax() - 1).clamp(min=1), 0.0)
        kept = own[kept]
        found.generation[kept] = height + 1
        found.begin[kept] = place
        found.end[kept] = torch.where(parent < 0, torch.inf, place[parent])
    return found


def at_level(
    masks: Bool[Tensor, "S h w"],
    made_at: Int[Tensor, " S"],
    kind: Int[Tensor, " S"],
    scores: Float[Tensor, " S"],
    level: float,
) -> Int[Tensor, " T"]:
    """Positions of the masks that are shown at a level, rising."""
    return spans(masks, made_at, kind, scores).at(level).nonzero()[:, 0]


def _height_and_depth(parent: Int[Tensor, " T"]) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"]]:
    """Steps from each mask to its farthest leaf, and to its root."""
    height, depth = torch.zeros_like(parent), torch.zeros_like(parent)
    ancestor, steps = parent.clone(), 0
    while (below := ancestor >= 0).any():
        steps += 1
        depth[below] = steps
        height[ancestor[below]] = steps
        ancestor[below] = parent[ancestor[below]]
    return height, depth
