"""Multi-crop: the teacher's view of the whole photo, the student's local views, and the geometry between them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor


class Views(NamedTuple):
    """The views of one photo: V local ones beside the whole."""

    whole: UInt8[Tensor, "3 H W"]  # the whole photo as a square
    local: UInt8[Tensor, "V 3 h w"]
    boxes_xyxy: Float[Tensor, "V 4"]  # of the local views in the photo, in [0, 1]
    flipped: Float[Tensor, " V"]  # 1 where a local view is mirrored left to right


def draw_views(
    image: UInt8[Tensor, "H W 3"],
    *,
    whole_px: int,
    local_px: int,
    local_count: int,
    local_scale: tuple[float, float],
    generator: Generator,
) -> Views:
    """Cut the local views from the photo at its full size, by boxes on whole pixels, so that none is blurred twice."""
    pixels = image.permute(2, 0, 1)
    height, width = image.shape[:2]
    sides = torch.tensor([width, height, width, height])
    drawn = random_boxes(local_count, local_scale, generator) * sides
    left, top = drawn[:, 0].floor(), drawn[:, 1].floor()
    right, bottom = torch.maximum(drawn[:, 2].ceil(), left + 1), torch.maximum(drawn[:, 3].ceil(), top + 1)
    boxes_px = torch.stack([left, top, right, bottom], 1)
    flipped = (torch.rand(local_count, generator=generator) < 0.5).float()
    local = []
    for (x0, y0, x1, y1), flip in zip(boxes_px.int().tolist(), flipped.tolist(), strict=True):
        view = resize_pixels(pixels[:, y0:y1, x0:x1], local_px)
        local.append(view.flip(2) if flip else view)
    return Views(resize_pixels(pixels, whole_px), torch.stack(local), boxes_px / sides, flipped)


def resize_pixels(pixels: UInt8[Tensor, "3 H W"], side_px: int) -> UInt8[Tensor, "3 side_px side_px"]:
    """A photo or a part of it as a square, filtered so that shrinking does not alias."""
    return F.interpolate(pixels[None], (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)[0]


def random_boxes(
    count: int, scale: tuple[float, float], generator: Generator, *, aspect: tuple[float, float] = (3 / 4, 4 / 3)
) -> Float[Tensor, "count 4"]:
    """Boxes xyxy in [0, 1] with an area share within `scale` and a width to height within `aspect`."""
    device = generator.device
    share = torch.empty(count, device=device).uniform_(*scale, generator=generator)
    log_aspect = torch.empty(count, device=device)
    ratio = log_aspect.uniform_(math.log(aspect[0]), math.log(aspect[1]), generator=generator).exp()
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    place = torch.rand(count, 2, device=device, generator=generator)
    left, top = place[:, 0] * (1 - width), place[:, 1] * (1 - height)
    return torch.stack([left, top, left + width, top + height], 1)


def crop(
    images: Float[Tensor, "B D H W"],
    boxes_xyxy: Float[Tensor, "B 4"],
    flipped: Float[Tensor, " B"],
    side: int,
) -> Float[Tensor, "B D side side"]:
    """Each image's box, resampled bilinearly to a square grid and mirrored where `flipped` is 1."""
    left, top, right, bottom = boxes_xyxy.unbind(1)
    zero = torch.zeros_like(left)
    theta = torch.stack(
        [
            torch.stack([(right - left) * (1 - 2 * flipped), zero, left + right - 1], 1),
            torch.stack([zero, bottom - top, top + bottom - 1], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [images.shape[0], images.shape[1], side, side], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def cut_masks(
    masks: Bool[Tensor, "S h w"], box_xyxy: Float[Tensor, "4"], flipped: Float[Tensor, ""], side: int
) -> Float[Tensor, "S side side"]:
    """The whole view's masks as a local view sees them, soft in [0, 1] where a mask's edge crosses a cell."""
    if masks.shape[0] == 0:
        return torch.zeros(0, side, side, device=masks.device)
    return crop(masks[None].float(), box_xyxy[None], flipped[None], side)[0]
