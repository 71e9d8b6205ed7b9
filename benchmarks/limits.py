"""What a computation moves and multiplies, operation by operation, and how fast a device could do that at best."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

CARDS = {  # of the makers' data sheets: float32 outside tensor cores, flop/s; memory, bytes/s
    "H100 80GB HBM3": (66.9e12, 3.35e12),
    "H100 PCIe": (51.2e12, 2.0e12),
    "H200": (66.9e12, 4.8e12),
    "A100-SXM4-80GB": (19.5e12, 2.04e12),
    "A100-SXM4-40GB": (19.5e12, 1.56e12),
}
VIEWS = {
    "view", "_unsafe_view", "alias", "detach", "expand", "permute", "transpose", "t", "select", "slice", "split",
    "split_with_sizes", "unbind", "unsqueeze", "squeeze", "empty", "new_empty", "empty_like",
}  # fmt: skip
PICKED = {"index", "index_select", "gather", "_embedding_bag", "_embedding_bag_forward_only", "embedding"}


class Limits(NamedTuple):
    """Of a device, in flop/s of float32 and bytes/s."""

    flops: float
    bandwidth: float
    source: str

    def ms(self, work: "Work") -> float:
        """Least time: products and memory traffic side by side, as a roofline has it."""
        return 1000 * max(work.flops / self.flops, work.moved / self.bandwidth)


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts under it: operations, flops of matrix products, and bytes that operations read and write.

    Each operation counts alone, as if no cache lay between two: what fusing them or a cache saves shows as a share of
    the limit above 100 %.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.flops, self.moved = 0, 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        name = packet.__name__
        if name in VIEWS:
            return result
        self.operations += 1
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        written = sum(map(_bytes, tree_leaves(result)))
        if name in PICKED:
            rows = args[1].numel() * args[0][:1].numel() * args[0].element_size() if "bag" in name else written
            self.moved += rows + written
        else:
            self.moved += sum(map(_bytes, tree_leaves(args))) + (0 if name.endswith("_") else written)
        return result


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def limits(device: torch.device, milliseconds: Callable[[Callable[[], object]], float]) -> list[Limits]:
    """Measured, by a product and a copy far larger than the caches; and those of a known card's data sheet."""
    cuda = device.type == "cuda"
    side, length = (4096, 1 << 29) if cuda else (1536, 1 << 26)
    matrix, source = torch.rand(side, side, device=device), torch.rand(length, device=device)
    target = torch.empty_like(source)
    flops = 2 * side**3 / min(milliseconds(lambda: matrix @ matrix) for _ in range(8)) * 1000
    moved = 2 * _bytes(source) / min(milliseconds(lambda: target.copy_(source)) for _ in range(8)) * 1000
    found = [Limits(flops, moved, "measured")]
    if cuda:
        card = torch.cuda.get_device_name(device)
        found += [Limits(*figures, card) for name, figures in CARDS.items() if card.endswith(name)]
    return found
