"""What an encoder knows of a photo: one feature a patch."""

from typing import NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor


class Patches(NamedTuple):
    """Patch features of one photo, row-major over the grid."""

    features: Float[Tensor, "N C"]  # L2-normalised keys
    grid: tuple[int, int]  # (h, w), N = h*w
    image: UInt8[Tensor, "H W 3"] | None = None  # for generators that look at pixels
    num_things: int | None = None  # by the photo's labels, crowds not counted; for generators that are told
