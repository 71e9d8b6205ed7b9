"""Which channels of a photo's features say most: noise and deviation channel reduction (Arefi et al., Eq. 1-3)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


def channel_entropy(
    features: Float[Tensor, "N C"], bins: int, empty_bins: Literal["nothing", "noise"] = "nothing"
) -> Float[Tensor, " C"]:
    """Entropy of each channel's histogram from its least to its largest value, in bits (Eq. 1-2); 0 if constant.

    `noise`: a channel with an empty bin has the entropy of noise, log2 of the bins, as one released script makes of it.
    """
    low, high = features.aminmax(dim=0)
    width = (high - low).clamp(min=torch.finfo(features.dtype).tiny)
    bin_of = ((features - low) / width * bins).long().clamp(max=bins - 1)
    counts = torch.zeros(bins, features.shape[1], device=features.device)
    counts.scatter_add_(0, bin_of, torch.ones_like(features, dtype=torch.float32))
    share = counts.double() / len(features)
    entropy = -torch.xlogy(share, share).sum(0) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    if empty_bins == "noise":
        entropy[(counts == 0).any(0)] = torch.log2(torch.tensor(float(bins)))
    return entropy.to(features.dtype)


def quiet_channels(
    features: Float[Tensor, "N C"], share: float, bins: int, empty_bins: Literal["nothing", "noise"] = "nothing"
) -> Int[Tensor, " M"]:
    """The share of the channels whose entropy is lowest, at least one (NCR); the first of equal ones."""
    keep = max(1, int(features.shape[1] * share))
    return channel_entropy(features, bins, empty_bins).argsort(stable=True)[:keep]


def varied_channels(features: Float[Tensor, "N C"], keep: int) -> Int[Tensor, " M"]:
    """The `keep` channels of highest standard deviation (Eq. 3, DCR), all for 0; the first of equal ones."""
    order = features.std(0, correction=0).argsort(descending=True, stable=True)
    return order[: keep or None]
