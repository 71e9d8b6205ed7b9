"""Masks prompted by single patches, told from the background, filtered and merged: the parts of ProMerge.

What compares a patch with all others runs on the features' device. The two walks through the masks, in which each
decision hangs on those before, run on the CPU in numpy.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from oapseg.refine.regions import SIDE_BY_SIDE

HALF = 0.5  # of a side, and of the votes

Joins = Callable[[np.ndarray, np.ndarray], np.ndarray]  # IoA and feature similarity of some masks, to which are joined


def prompt(features: Float[Tensor, "N C"], grid: tuple[int, int], stride: int, tau: float) -> Bool[Tensor, "K h w"]:
    """For every `stride`-th patch of every `stride`-th row, the patches whose cosine with it exceeds tau (Eq. 1)."""
    prompts = features.unflatten(0, grid)[::stride, ::stride].flatten(0, 1)
    return (prompts @ features.T > tau).unflatten(1, grid)


def is_background(masks: Bool[Tensor, "K h w"], num_sides: int) -> Bool[Tensor, " K"]:
    """Whether a mask covers at least half of at least `num_sides` of the four sides of the photo."""
    sides = (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])
    return torch.stack([side.float().mean(1) >= HALF for side in sides]).sum(0) >= num_sides


def vote(masks: Bool[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
    """The patches that more than half of the masks hold (Eq. 2); none where there is no mask."""
    return masks.sum(0) > HALF * len(masks)


def split(masks: Bool[Tensor, "K h w"], smallest: int) -> Bool[Tensor, "T h w"]:
    """The connected parts of all masks that have at least `smallest` patches, in the order of their masks."""
    labels, _ = ndimage.label(masks.cpu().numpy(), SIDE_BY_SIDE)
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    large = (names > 0) & (sizes >= smallest)
    order = first[large].argsort()
    names, source = names[large][order], first[large][order] // max(1, masks[0].numel() if len(masks) else 1)
    return torch.from_numpy(labels[source] == names[:, None, None]).to(masks.device)


def mean_features(masks: Bool[Tensor, "T h w"], features: Float[Tensor, "N C"]) -> Float[Tensor, "T C"]:
    """The normalised mean feature of each mask's patches; zeros for an empty mask."""
    return F.normalize(masks.flatten(1).to(features.dtype) @ features, dim=1)


def cascade(
    masks: Bool[Tensor, "T h w"], background: Bool[Tensor, "h w"], tau: float, skip: Bool[Tensor, " T"]
) -> Int[Tensor, " kept"]:
    """Positions of the masks that pass the cascade, from small to large (section 3.3).

    A mask passes when less than `tau` of its new patches, those that no mask before it has brought, is background. One
    without a new patch does not pass, nor one that `skip` names.
    """
    flat, behind = masks.flatten(1).cpu().numpy(), background.flatten().cpu().numpy()
    left_out = skip.cpu().numpy()
    unseen = np.ones(flat.shape[1], dtype=bool)
    kept = []
    for index in flat.sum(1).argsort(kind="stable").tolist():
        if left_out[index]:
            continue
        new = flat[index] & unseen
        count = np.count_nonzero(new)
        if count and np.count_nonzero(new & behind) < tau * count:
            unseen &= ~new
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def merge(masks: Bool[Tensor, "T h w"], features: Float[Tensor, "N C"], joins: Joins) -> Bool[Tensor, "M h w"]:
    """From large to small, each mask and all those so far that it joins become one; the largest result comes first.

    `joins` sees, of each mask so far, the share of the new mask that it holds and the cosine of the mean features.
    """
    flat = masks.flatten(1).cpu().numpy().astype(np.float32)
    rows = features.cpu().numpy()
    means = _unit(flat @ rows)
    alive: list[int] = []
    for index in flat.sum(1).argsort(kind="stable")[::-1].tolist():
        own = flat[index].nonzero()[0]
        shared = flat[np.ix_(alive, own)].mean(1) if alive else np.empty(0, flat.dtype)
        joined = set(np.array(alive, dtype=int)[joins(shared, means[alive] @ means[index])].tolist())
        if joined:
            flat[index] = flat[[index, *joined]].max(0)
            means[index] = _unit(flat[index] @ rows)
        alive = [other for other in alive if other not in joined] + [index]
    alive.sort(key=lambda index: -flat[index].sum())
    merged = torch.from_numpy(flat[alive] > 0)
    return merged.to(masks.device).unflatten(1, masks.shape[1:])


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows (the last axis) of length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: np.ndarray = rows / np.maximum(length, np.finfo(rows.dtype).tiny)
    return unit
