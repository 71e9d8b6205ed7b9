"""Bytes of a photo to a tensor."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg.shards.upright import open_upright


def decode(data: bytes, max_pixels: int | None = None) -> UInt8[Tensor, "H W 3"]:
    """The photo as people see it: upright RGB (`open_upright`, whose errors it shares)."""
    return torch.from_numpy(np.array(open_upright(data, max_pixels)))
