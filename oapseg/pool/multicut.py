"""MultiCut with a mask filter: the patch graph cut where features part, the clearest regions kept (Hoang 2025)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.pool import graph as graphs
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.partition import multicut


@dataclass(frozen=True)
class MultiCut(Generator):
    """Disjoint regions of at least `phi` patches, the clearest first, with the fields of section `pool.multicut`.

    Patches side by side, and those `reach` patches apart in a row or column, pull together or push apart by their
    affinity (`join_weights`); the multicut minimises the weights that it cuts. Of the regions the share `keep` is kept
    whose features agree inside and differ across the border (`contrast`). The cut is found on the CPU.

    Scores are 1, as the other generators' are: regions of equal score rank by their contrast within a photo.

    Nothing of alpha, epsilon, the graph or Q (`keep`) is published. Measured on the 60 photos of the sample's val, 224
    px, starter encoder, class-agnostic masks in percent: AP50 13.5, AR100 20.7 with the shipped values; without pairs
    apart 9.9, 18.5; with epsilon 0.01 13.1, 20.1; with `keep` 0.8 11.1, 17.5, so that nothing is filtered by default.
    alpha was chosen at epsilon 0.01 and phi 5: 0.5 3.8, 8.9; 0.7 8.4, 16.9; 0.8 9.3, 20.3; 0.9 5.4, 17.3.
    """

    alpha: float
    epsilon: float
    reach: Sequence[int]
    keep: float
    phi: int

    def __call__(self, patches: Patches) -> Masks:
        """Errors: `ValueError` where features are not finite."""
        features = next(grouped([patches]))[0]
        device = features.device
        near = graphs.grid_edges(*patches.grid, device)
        edges = torch.cat([near, *(apart(*patches.grid, distance, device) for distance in self.reach)])
        with full_precision(device):
            affinity = graphs.feature_similarity(features, edges)
        weights = join_weights(affinity, self.alpha, self.epsilon)
        found = multicut(len(features), edges.cpu().numpy(), weights.cpu().numpy())
        region = torch.from_numpy(found).to(device)
        large = (torch.bincount(region) >= self.phi).nonzero()[:, 0]
        clearest = contrast(region, near, affinity[: len(near)])[large].argsort(descending=True, stable=True)
        kept = large[clearest[: math.ceil(self.keep * len(large))]]
        return described((region == kept[:, None]).unflatten(1, patches.grid), patches)


def apart(height: int, width: int, distance: int, device: torch.device | str = "cpu") -> Int[Tensor, "E 2"]:
    """Pairs of patches of a grid that lie `distance` apart in a row or a column; none on a grid that is too small."""
    patch = torch.arange(height * width, device=device).view(height, width)
    across = torch.stack([patch[:, :-distance].flatten(), patch[:, distance:].flatten()], 1)
    down = torch.stack([patch[:-distance].flatten(), patch[distance:].flatten()], 1)
    return torch.cat([across, down])


def join_weights(affinity: Float[Tensor, " E"], alpha: float, epsilon: float) -> Float[Tensor, " E"]:
    """Log-odds of a pair being of one region: its affinity read as the probability, kept `epsilon` off 0 and 1.

    0 at an affinity of `alpha`, positive above. In float64.
    """
    return torch.logit(affinity.double(), epsilon) - math.log(alpha / (1 - alpha))


def contrast(
    region: Int[Tensor, " N"], edges: Int[Tensor, "E 2"], affinity: Float[Tensor, " E"]
) -> Float[Tensor, " S"]:
    """Mean affinity of the edges inside each region less that of the edges across its border, -2 to 2.

    A region of one patch agrees with nothing (-1 inside); one that is the whole photo is told from nothing (1 across).
    """
    ends = region[edges]
    inside = ends[:, 0] == ends[:, 1]
    num_regions = int(region.max()) + 1

    def mean(place: Int[Tensor, " E"], value: Float[Tensor, " E"], otherwise: float) -> Float[Tensor, " S"]:
        count = torch.bincount(place, minlength=num_regions)
        total = torch.bincount(place, value.double(), minlength=num_regions)
        return torch.where(count > 0, total / count.clamp(min=1), otherwise)

    across = mean(ends[~inside].flatten(), affinity[~inside].repeat_interleave(2), 1.0)
    return mean(ends[inside, 0], affinity[inside], -1.0) - across
