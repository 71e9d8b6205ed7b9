"""Multi-scale deformable attention in plain PyTorch, with autograd and without a compiled extension."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Each query gathers a few learned points around its reference on every level (Deformable DETR, section 4.1)."""

    def __init__(self, width: int, heads: int, levels: int, points: int, value_ratio: float = 1.0) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        value_width = int(width * value_ratio)
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, value_width)
        self.out = nn.Linear(value_width, width)
        self._initialise()

    def forward(
        self,
        query: Float[Tensor, "B Q D"],
        reference: Float[Tensor, "Q 2"],
        source: Float[Tensor, "B M D"],
        shapes: list[tuple[int, int]],
    ) -> Float[Tensor, "B Q D"]:
        """Attend from `query`, at `reference` points xy in [0, 1], to `source`: the levels' cells one after another."""
        batch, num_queries = query.shape[:2]
        spread = (batch, num_queries, self.heads, self.levels, self.points)
        offsets = self.offsets(query).float().view(*spread, 2)
        weights = self.weights(query).float().view(*spread[:3], -1).softmax(-1).view(spread)
        sizes = torch.tensor([(w, h) for h, w in shapes], device=query.device, dtype=torch.float32)
        locations = reference[None, :, None, None, None] + offsets / sizes[:, None]
        value = self.value(source).float().view(batch, source.shape[1], self.heads, -1)
        gathered = gather_points(value, shapes, locations, weights)
        return self.out(gathered)

    def _initialise(self) -> None:
        """Zero weights with biases on a star, one direction a head, so that attention starts as a local pattern."""
        nn.init.zeros_(self.offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        star = torch.stack([angle.cos(), angle.sin()], -1)
        star = star / star.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        bias = star.view(self.heads, 1, 1, 2) * steps.expand(-1, self.levels, -1, -1)
        with torch.no_grad():
            self.offsets.bias.copy_(bias.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def gather_points(
    value: Float[Tensor, "B M heads d"],
    shapes: list[tuple[int, int]],
    locations: Float[Tensor, "B Q heads levels points 2"],
    weights: Float[Tensor, "B Q heads levels points"],
) -> Float[Tensor, "B Q heads*d"]:
    """Bilinear values at the locations (xy in [0, 1], zero outside), weighted and summed over levels and points."""
    batch, _, heads, depth = value.shape
    num_queries = locations.shape[1]
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5)  # queries last: sums over points then run along memory
    shares = weights.permute(3, 0, 2, 4, 1)
    total = value.new_zeros(batch * heads, depth, num_queries)
    levels = zip(value.split([h * w for h, w in shapes], 1), shapes, grids, shares, strict=True)
    for cells, (height, width), grid, share in levels:
        image = cells.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width)
        sampled = F.grid_sample(image, grid.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (sampled * share.flatten(0, 1)[:, None]).sum(2)
    return total.view(batch, heads * depth, num_queries).transpose(1, 2)


def cell_centres(shapes: list[tuple[int, int]], device: torch.device) -> Float[Tensor, "M 2"]:
    """Centres xy in [0, 1] of the cells of all levels, row-major, one level after another."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        levels.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], 1))
    return torch.cat(levels)
