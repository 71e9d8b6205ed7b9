"""Connected components in two Triton kernels, whose number of steps the device itself finds (as `components` has them).

Imported only where a CUDA device is meant to run it: Triton comes with PyTorch's CUDA build alone.
"""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from jaxtyping import Int
from torch import Tensor

BLOCK = 128  # edges or nodes of a program, one a thread of four warps


@triton.jit  # type: ignore[untyped-decorator]
def _hook(edges, root, num_edges, block: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton reads no others
    """Of the two ends of an edge the larger hooks onto the smaller; whatever it was hooked onto is joined next.

    A pointer only ever falls, so that nothing is lost between threads, and the larger of the two ends falls too, so
    that every edge comes to its end.
    """
    number = tl.program_id(0) * block + tl.arange(0, block)
    inside = number < num_edges
    first = tl.load(edges + 2 * number, mask=inside, other=0).to(tl.int32)
    second = tl.load(edges + 2 * number + 1, mask=inside, other=0).to(tl.int32)
    apart = first != second
    while tl.max(apart.to(tl.int32), 0) > 0:
        low, high = tl.minimum(first, second), tl.maximum(first, second)
        before = tl.atomic_min(root + high, low, mask=apart)
        first = low
        second = tl.where(apart & (before != high), before, low)
        apart = first != second


@triton.jit  # type: ignore[untyped-decorator]
def _flatten(root, flat, num_nodes, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The node at the end of each node's pointers."""
    node = tl.program_id(0) * block + tl.arange(0, block)
    inside = node < num_nodes
    here = tl.load(root + node, mask=inside, other=0)
    above = tl.load(root + here, mask=inside, other=0)
    while tl.max((here != above).to(tl.int32), 0) > 0:
        here = above
        above = tl.load(root + here, mask=inside, other=0)
    tl.store(flat + node, here, mask=inside)


def smallest_nodes(num_nodes: int, edges: Int[Tensor, "E 2"]) -> Int[Tensor, " num_nodes"]:
    """The smallest node of each node's component."""
    root = torch.arange(num_nodes, dtype=torch.int32, device=edges.device)
    flat = torch.empty_like(root)
    if len(edges):
        _hook[(triton.cdiv(len(edges), BLOCK),)](edges.contiguous(), root, len(edges), BLOCK)
    _flatten[(triton.cdiv(num_nodes, BLOCK),)](root, flat, num_nodes, BLOCK)
    return flat.long()
