"""The path that a GPU takes, run on the CPU, and what on it would wait for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from oapseg.pool import on_device

WAIT = {  # operations of ATen for which a CUDA device is waited for
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "masked_scatter", "bincount",
    "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "histc",
}  # fmt: skip


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_device, "waits", lambda _: True)
        yield


class Waits(TorchDispatchMode):
    """The operations under it that wait for the device, and copies between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAIT or by_mask or unsized:
            self.found.append(name)
        result = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_") and args[-1 if name == "copy_" else 0].device != result.device:
            self.found.append(name)
        return result


@contextmanager
def watched() -> Iterator[tuple[Waits, list[list[list[int]]]]]:
    """What waits outside `on_device.read`, and what that gave."""
    waits, answers, plain = Waits(), [], on_device.read

    def read(sizes: list[torch.Tensor]) -> list[list[int]]:
        before = len(waits.found)
        answers.append(plain(sizes))
        del waits.found[before:]
        return answers[-1]

    with as_on_a_gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_device, "read", read)
        with waits:
            yield waits, answers
