"""Similarities of feature vectors that make the weights of a graph of patches (Arefi et al., Eq. 4-8 and Table II)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Metric = Literal[
    "boc", "braycurtis", "correlation", "cosine", "chebyshev", "l2", "dot", "l1", "mahalanobis"
]  # best to worst in Table II

UNLIKE = float("inf")  # distance where a metric is not defined, as of two zero vectors: similarity 0


def graph_weights(features: Float[Tensor, "N C"], metric: Metric) -> Float[Tensor, "N N"]:
    """Similarity of all pairs, negative ones as 0, divided by the largest: symmetric, in [0, 1]."""
    weights = similarity(features, metric)
    weights = torch.minimum(weights, weights.mT).clamp(min=0)
    return weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny)


def similarity(features: Float[Tensor, "N C"], metric: Metric) -> Float[Tensor, "N N"]:
    """Dot product; Bray-Curtis over Chebyshev (Eq. 8); else 1 / (1 + distance) (Eq. 5 and 7), 0 where undefined."""
    if metric == "dot":
        return features @ features.mT
    if metric == "boc":
        return similarity(features, "braycurtis") / similarity(features, "chebyshev")
    return 1 / (1 + distance(features, metric))


def distance(features: Float[Tensor, "N C"], metric: Metric) -> Float[Tensor, "N N"]:
    """Distance of all pairs as scipy.spatial has it; infinite where that is not a number."""
    match metric:
        case "braycurtis":
            found = torch.cdist(features, features, p=1) / torch.cdist(features, -features, p=1)
        case "l1":
            found = torch.cdist(features, features, p=1)
        case "l2":
            found = _euclidean(features)
        case "chebyshev":
            found = torch.cdist(features, features, p=torch.inf)
        case "cosine":
            found = _angular(features)
        case "correlation":
            found = _angular(features - features.mean(1, keepdim=True))
        case "mahalanobis":
            found = _euclidean(_whitened(features))
        case _:
            raise ValueError(
                f"{metric}: no distance; allowed are braycurtis, l1, l2, chebyshev, cosine, correlation, mahalanobis"
            )
    return found.nan_to_num(nan=UNLIKE)


def _euclidean(features: Float[Tensor, "N C"]) -> Float[Tensor, "N N"]:
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def _angular(features: Float[Tensor, "N C"]) -> Float[Tensor, "N N"]:
    """1 less the cosine; undefined for a zero vector."""
    length = features.norm(dim=1)
    unit = F.normalize(features, dim=1)
    return (1 - unit @ unit.mT).clamp(min=0).masked_fill((length == 0) | (length[:, None] == 0), torch.nan)


def _whitened(features: Float[Tensor, "N C"]) -> Float[Tensor, "N M"]:
    """Features in whose space the Euclidean distance is Mahalanobis', by the covariance's pseudo-inverse in float64."""
    centred = (features - features.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred.mT @ centred / max(1, len(features) - 1))
    large = values > values.max() * len(values) * torch.finfo(features.dtype).eps
    return (centred @ (vectors[:, large] * values[large].rsqrt())).to(features.dtype)
