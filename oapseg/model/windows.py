"""Where the model looks at use: the whole photo, and windows that overlap."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

OVERLAP = 0.4  # share of a window's side that it has in common with its neighbour
CLOSED = -20.0  # logit outside a window

Box = tuple[int, int, int, int]  # left, top, right, bottom in cells of the canvas; right and bottom exclusive


def window_boxes(count: int, cells: int) -> list[Box]:
    """`count` x `count` windows of one size that cover a square canvas of `cells` a side, row by row.

    None where `count` is 1: that window would be the photo.
    """
    if count == 1:
        return []
    side = round(cells / (count - (count - 1) * OVERLAP))
    starts = [round((cells - side) * place / (count - 1)) for place in range(count)]
    return [(left, top, left + side, top + side) for top in starts for left in starts]


def cut(image: UInt8[Tensor, "H W 3"], box: Box, cells: int) -> UInt8[Tensor, "h w 3"]:
    """A window of the photo at its full size."""
    height, width = image.shape[:2]
    left, right = round(box[0] * width / cells), round(box[2] * width / cells)
    top, bottom = round(box[1] * height / cells), round(box[3] * height / cells)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def paste(logits: Float[Tensor, "Q h w"], box: Box, cells: int) -> Float[Tensor, "Q cells cells"]:
    """A window's mask logits at its place on the canvas, closed all around."""
    left, top, right, bottom = box
    canvas = logits.new_full((logits.shape[0], cells, cells), CLOSED)
    if logits.shape[0] == 0:
        return canvas
    size = (bottom - top, right - left)
    canvas[:, top:bottom, left:right] = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    return canvas


def cut_off(masks: Bool[Tensor, "Q h w"], box: Box, cells: int) -> Bool[Tensor, " Q"]:
    """Whether a window's mask (on the window's own grid) reaches an edge of it that is inside the photo."""
    left, top, right, bottom = box
    edges = [(left > 0, masks[:, :, 0]), (top > 0, masks[:, 0]), (right < cells, masks[:, :, -1])]
    edges.append((bottom < cells, masks[:, -1]))
    inner = [edge.any(1) for inside, edge in edges if inside]
    return torch.stack(inner).any(0) if inner else masks.new_zeros(masks.shape[0])
