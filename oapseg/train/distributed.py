"""Where a run computes: device, precision, ranks. One process alone is rank 0 of 1."""

import contextlib
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from oapseg.params import Device, Precision


@dataclass(frozen=True)
class Placement:
    """The device of this process, its number format, and its place among the ranks."""

    device: torch.device
    precision: Precision
    rank: int
    world: int

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Matrix products in bfloat16 where the precision says so; parameters stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all ranks; the value itself where there is one."""
        if self.world > 1:
            dist.all_reduce(value)
            value /= self.world
        return value

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Every gradient becomes its mean over the ranks; a parameter unused on one rank counts as zero there."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
        self.mean(flat)
        offset = 0
        for parameter in parameters:
            size = parameter.numel()
            parameter.grad = flat[offset : offset + size].view_as(parameter)
            offset += size


def place(device: Device, precision: Precision, section: str) -> Placement:
    """Find the device, and join the other ranks where `torchrun` (or a `TrainJob`) started several.

    Errors: `ValueError`, which names the `section`, where it asks for `cuda` and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{section}.device: cuda is asked for and no CUDA device is here; allowed are auto and cpu")
    local_rank, world = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    on_cuda = device != "cpu" and torch.cuda.is_available()
    chosen = torch.device("cuda", local_rank) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(chosen)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if on_cuda else "gloo")
    return Placement(chosen, precision, int(os.environ.get("RANK", 0)), world)
