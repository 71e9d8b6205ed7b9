"""Normalised cuts: the smallest eigenvectors of (D - W) y = lambda D y, for graphs of a batch together (Shi and Malik).

The smallest eigenvalues of the Laplacian are 1 less the largest of D^-1/2 W D^-1/2, which few products with W find:
a block Krylov method, in float32 as far as that is sure and in float64 from there.
"""

from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

Solver = Literal["lanczos", "eigh"]

BLOCK = 4  # vectors that are looked for beyond the wanted ones: with them a close group converges as one
DEPTH = 4  # products with W before the first look at what has converged; twice as many before each next one
DENSE = 96  # nodes up to which LAPACK on the whole matrix is as fast
ACCURACY = 1e-5  # residual over the gap to the next eigenvalue: about the error of an eigenvector of length 1
FLOOR = 1e-12  # residual below which more products bring nothing
CLOSE = 1e-4  # eigenvalues within this of a wanted one may turn out equal to it
EQUAL = 1e-7  # eigenvalues closer than this are one, whatever the solver says
NO_DEGREE = 1e-12  # a node with less has no neighbours and counts as one of degree 1


class Cuts(NamedTuple):
    """Eigenvalues of the normalised Laplacian, rising from the second on, in [0, 2], and y with y' D y = 1."""

    values: Float[Tensor, "B K"]
    vectors: Float[Tensor, "B N K"]


def smallest_cuts(weights: Float[Tensor, "B N N"], count: int, solver: Solver, accurate: int | None = None) -> Cuts:
    """The `count` smallest eigenvectors after the constant one, fewer where N is small; `weights` are symmetric, >= 0.

    In float64. The entry of largest absolute value is positive, the first of equal ones. Only the first `accurate`
    vectors, and those of eigenvalues close to theirs, need be exact to 1e-4; without it, all. `eigh` is LAPACK: on the
    CPU scipy's generalised solver for the wanted indices, which TokenCut's and MaskCut's authors call.
    """
    count = min(count, weights.shape[1] - 1)
    accurate = count if accurate is None else min(accurate, count)
    degree = weights.sum(2, dtype=torch.float64)
    degree = torch.where(degree < NO_DEGREE, 1.0, degree)
    if solver == "eigh" and not weights.is_cuda:
        values, vectors = _generalised(weights, degree, count)
    elif solver == "eigh" or weights.shape[1] <= max(DENSE, 2 * (count + BLOCK) * DEPTH):
        values, vectors = _dense(weights, degree, count)
    else:
        values, vectors = _block_krylov(weights, degree, count, accurate)
    return Cuts(values, _signed(vectors))


def fiedler(weights: Float[Tensor, "B N N"], solver: Solver) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"]]:
    """The second eigenvalue of each graph and its vector; zeros for a single node.

    Where several eigenvectors share the eigenvalue, as in a graph of several equal parts, any mixture of them is as
    good: it is the one nearest to a fixed vector, so that every solver and device cuts a photo the same way.
    """
    if weights.shape[1] < 2:
        return weights.new_zeros(len(weights)).double(), weights.new_zeros(weights.shape[:2]).double()
    values, vectors = smallest_cuts(weights, BLOCK, solver, accurate=1)
    alike = values - values[:, :1] < EQUAL
    several = alike.sum(1) > 1
    if several.any():
        degree = weights.sum(2, dtype=torch.float64)
        fixed = _random(weights.shape[1], 1, weights.device)[:, 0]
        share = torch.einsum("bnk,bn->bk", vectors, degree * fixed) * alike
        mixed = torch.einsum("bnk,bk->bn", vectors, share / share.norm(dim=1, keepdim=True))
        vectors = torch.where(several[:, None], mixed, vectors[:, :, 0])[..., None]
    return values[:, 0], _signed(vectors)[:, :, 0]


def _generalised(
    weights: Float[Tensor, "B N N"], degree: Float[Tensor, "B N"], count: int
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B N K"]]:
    """LAPACK's generalised problem, graph by graph."""
    values, vectors = np.empty((len(weights), count)), np.empty((*weights.shape[:2], count))
    for index, (weight, of_node) in enumerate(zip(weights.double().numpy(), degree.numpy(), strict=True)):
        diagonal = np.diag(of_node)
        trivial = 3 * np.outer(of_node, of_node) / of_node.sum()  # its eigenvalue from 0 to 3, above all others
        laplacian = diagonal - weight + trivial
        values[index], vectors[index] = scipy.linalg.eigh(laplacian, diagonal, subset_by_index=[0, count - 1])
    return torch.from_numpy(values), torch.from_numpy(vectors)


def _dense(
    weights: Float[Tensor, "B N N"], degree: Float[Tensor, "B N"], count: int
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B N K"]]:
    """The whole spectrum of D^-1/2 W D^-1/2, of which the largest part below the trivial vector is kept."""
    scale = degree.rsqrt()
    normalised = scale[:, :, None] * weights.double() * scale[:, None, :]
    trivial = degree.sqrt() / degree.sum(1, keepdim=True).sqrt()
    normalised -= 3 * trivial[:, :, None] * trivial[:, None, :]  # from 1 to -2, below all others
    values, vectors = torch.linalg.eigh(normalised)
    return 1 - values.flip(1)[:, :count], scale[:, :, None] * vectors.flip(2)[:, :, :count]


def _block_krylov(
    weights: Float[Tensor, "B N N"], degree: Float[Tensor, "B N"], count: int, accurate: int
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B N K"]]:
    """Largest eigenvectors of D^-1/2 W D^-1/2 below the trivial one, from a fixed random start."""
    num_photos, num_nodes = degree.shape
    block = _random(num_nodes, max(count, accurate + BLOCK), weights.device).expand(num_photos, -1, -1)
    scale, root = degree.rsqrt()[:, :, None], degree.sqrt()[:, :, None]
    trivial = root / root.norm(dim=1, keepdim=True)
    for dtype in (torch.float32, torch.float64):
        matrix = weights.to(dtype)
        values, block, sure = _converge(matrix, scale.to(dtype), trivial.to(dtype), block.to(dtype), accurate)
        if sure:
            return 1 - values[:, :count].double(), scale * block[:, :, :count].double()
    return _dense(weights, degree, count)


def _converge(
    matrix: Float[Tensor, "B N N"],
    scale: Float[Tensor, "B N 1"],
    trivial: Float[Tensor, "B N 1"],
    block: Float[Tensor, "B N M"],
    accurate: int,
) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B N M"], bool]:
    """Rayleigh-Ritz on ever longer Krylov sequences from the best vectors so far; and whether they are accurate."""
    width, depth, before = block.shape[2], DEPTH, float("inf")
    while True:
        blocks, products = [trivial], []
        for _ in range(depth):
            blocks.append(_orthonormal(block, torch.cat(blocks, 2)))
            block = scale * torch.bmm(matrix, scale * blocks[-1])
            products.append(block)
        basis, image = torch.cat(blocks[1:], 2), torch.cat(products, 2)
        small = basis.mT @ image
        values, mixture = torch.linalg.eigh((small + small.mT) / 2)
        values, mixture = values.flip(1)[:, :width], mixture.flip(2)[:, :, :width]
        block = basis @ mixture
        wanted = values >= values[:, accurate - 1 : accurate] - CLOSE
        residual = (image @ mixture - block * values[:, None]).norm(dim=1) * wanted
        error = float((residual / _gaps(values)).max())
        if error <= ACCURACY or (residual <= FLOOR).all():
            return values, block, True
        depth *= 2
        if error > before / 2 or 2 * depth * width > matrix.shape[1]:
            return values, block, False
        before = error


def _gaps(values: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """Distance of each value to the nearest other one that is not equal to it."""
    apart = (values[:, :, None] - values[:, None, :]).abs()
    return apart.masked_fill(apart < EQUAL, 2).amin(2)


def _orthonormal(block: Float[Tensor, "B N M"], basis: Float[Tensor, "B N L"]) -> Float[Tensor, "B N M"]:
    """An orthonormal basis of a block, orthogonal to `basis` too. Twice: directions that the first pass had to make up,
    since the block had lost rank, are made orthogonal by the second."""
    for _ in range(2):
        block = torch.linalg.qr(block - basis @ (basis.mT @ block))[0]
    return block


def _signed(vectors: Float[Tensor, "B N K"]) -> Float[Tensor, "B N K"]:
    """Each vector with its largest entry positive; among entries that rounding alone parts, the first counts."""
    size = vectors.abs()
    first = (size >= (1 - 1e-6) * size.amax(1, keepdim=True)).int().argmax(1, keepdim=True)
    return vectors * vectors.gather(1, first).sign()


def _random(num_nodes: int, count: int, device: torch.device) -> Float[Tensor, "N K"]:
    """The same on every device."""
    return torch.randn(num_nodes, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
