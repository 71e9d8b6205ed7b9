"""Photos of a training beside the pseudo-masks that it learns from, as a picture that is kept as long as it is new."""

import colorsys
import io
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg.masks import INSTANCE, Masks, area

FILE = "masks.png"  # beside the history
PHOTOS = 6  # at most
GOLDEN = 0.618034  # of a turn of the hue, so that neighbours differ
COVER = 0.55  # share of a mask's colour where it lies on the photo


def sheet(wholes: Sequence[UInt8[Tensor, "3 H W"]], masks: Sequence[Masks]) -> bytes:
    """PNG: a row of photos, and below it the same under their instance masks of all levels, small ones on top."""
    from PIL import Image

    photos = [whole.cpu() for whole in wholes[:PHOTOS]]
    below = [covered(photo, found) for photo, found in zip(photos, masks, strict=False)]
    pixels = torch.cat([torch.cat(photos, 2), torch.cat(below, 2)], 1)
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


def covered(photo: UInt8[Tensor, "3 H W"], found: Masks) -> UInt8[Tensor, "3 H W"]:
    """The photo under its masks."""
    masks = found.masks[found.kind == INSTANCE].cpu()
    result = photo.float()
    for number, index in enumerate(area(masks).argsort(descending=True, stable=True).tolist()):
        colour = 255 * torch.tensor(colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.8, 1.0))
        mask = torch.nn.functional.interpolate(masks[index][None, None].float(), photo.shape[1:])[0, 0] > 0
        result[:, mask] = (1 - COVER) * photo[:, mask].float() + COVER * colour[:, None]
    return result.round().to(torch.uint8)
