"""Heads: projection onto the prototypes of self-distillation, and plain MLPs."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """DINO's head (section 5.1): 3-layer MLP with GELU, bottleneck, L2, weight-normed linear layer to K prototypes.

    The norm of the last layer's rows is 1 and is not learned, so its weight is normalised where it is used. Weights
    start at 1/sqrt(fan-in), which is DINO's 0.02 at its hidden width of 2048 and keeps signals alive at smaller ones.
    """

    def __init__(self, channels: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = mlp([channels, hidden, hidden, bottleneck], nn.GELU)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch K"]:
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.prototypes, dim=-1))


def mlp(widths: list[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given widths with an activation between each two."""
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        if index:
            layers.append(activation())
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)
