"""TokenCut: the salient object of a photo by one normalised cut of its patches (Wang et al. 2022)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.spectral import Solver, fiedler
from oapseg.refine.regions import components

EVEN = 1e-6  # second eigenvalue this near to 1: all cuts cost the same, so that there is nothing to cut
TIE = 1e-6  # relative difference of eigenvector entries that rounding may make


@dataclass(frozen=True)
class TokenCut(Generator):
    """One mask a photo, with the fields of section `pool.tokencut`: the side of the cut with the strongest patch.

    A photo without any contrast is one mask. `edges`: `binary` is the paper's graph, 1 or `eps`; `cosine` keeps the
    similarity of an edge, as the released code does on demand. The released code solves by LAPACK (`eigh`), which takes
    seconds for 3,136 patches; `lanczos` finds the same vector to 1e-4 in a small part of that. The paper's clean-up of
    the mask with the photo's pixels is not here: see `oapseg.refine`.
    """

    tau: float
    eps: float
    edges: Literal["binary", "cosine"]
    solver: Solver

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo; on a GPU the photos of one grid are solved together."""
        found: list[Masks] = []
        for features in grouped(patches):
            with full_precision(features.device):
                cuts = fiedler(patch_graph(features, self.tau, self.eps, self.edges), self.solver)
            for value, vector in zip(*cuts, strict=True):
                photo = patches[len(found)]
                found.append(described(foreground(float(value), vector, photo.grid)[None], photo))
        return found


def patch_graph(
    features: Float[Tensor, "B N C"], tau: float, eps: float, edges: Literal["binary", "cosine"]
) -> Float[Tensor, "B N N"]:
    """Weights of all pairs of patches: 1, or their cosine, where that is above `tau`, and `eps` elsewhere."""
    cosine = torch.bmm(features, features.mT)
    weak = cosine <= tau
    if edges == "binary":
        cosine.fill_(1)
    return cosine.masked_fill_(weak, eps)


def foreground(
    value: float, vector: Float[Tensor, " N"], grid: tuple[int, int], corners: int | None = None
) -> Bool[Tensor, "h w"]:
    """The object of a cut: the connected part with the strongest patch, of the side of the mean where that patch lies.

    Of a side that holds at least `corners` of the grid's corners, the other side is taken. (The released MaskCut asks
    this of the side above the mean, which depends on the sign that LAPACK happens to give; here, of the strongest
    patch's side.) Without contrast, the whole grid.
    """
    if 1 - value < EVEN or len(vector) == 1:
        return torch.ones(grid, dtype=torch.bool, device=vector.device)
    rise = vector - vector.mean()
    side = rise * rise[_first_largest(vector.abs())].sign()
    if corners is not None and int((side.view(grid)[[0, 0, -1, -1], [0, -1, 0, -1]] > 0).sum()) >= corners:
        side = -side
    parts, _ = components((side > 0).view(1, *grid))
    return parts[parts.flatten(1)[:, _first_largest(side)]][0]


def _first_largest(values: Float[Tensor, " N"]) -> Tensor:
    """Position of the largest value, the first of those that differ by rounding alone."""
    return (values >= values.max() - TIE * values.abs().max()).int().argmax()
