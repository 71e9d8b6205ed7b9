"""Masks drawn over a photo, and pictures side by side with captions."""

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from oapseg.masks import area

PALETTE = (  # Okabe and Ito's seven colours, told apart with any colour vision, then three of Tol's between them
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (136, 34, 85),
    (153, 204, 51),
    (170, 170, 255),
)
SHADES = (0.0, 0.35, -0.3, 0.6)  # rounds through the palette: pure, towards white, towards black
FILL = 0.45  # share of the colour inside a mask
CONTOUR = 0.95  # and on its edge
CONTOURS_A_SIDE = 450  # a contour is the longest side over this, at least 1 px
CAPTION_PX = 13
MARGIN_PX = 8
INK, PAPER = (70, 76, 82), (255, 255, 255)


def colours(count: int) -> Int[Tensor, "S 3"]:
    """A colour for each of `count` masks, by its position alone."""
    rows = []
    for index in range(count):
        shade = SHADES[index // len(PALETTE) % len(SHADES)]
        target = 255 if shade > 0 else 0
        rows.append([round(tone + abs(shade) * (target - tone)) for tone in PALETTE[index % len(PALETTE)]])
    return torch.tensor(rows, dtype=torch.long).view(count, 3)


def overlay(image: UInt8[Tensor, "H W 3"], masks: Bool[Tensor, "S H W"]) -> UInt8[Tensor, "H W 3"]:
    """The photo under its masks, small ones on top; each keeps the colour of its position. Empty masks are skipped."""
    height, width = image.shape[:2]
    paint = torch.zeros(height, width, 3)
    share = torch.zeros(height, width)
    tones = colours(len(masks)).float()
    thickness = max(1, round(max(height, width) / CONTOURS_A_SIDE))
    for index in area(masks).argsort(descending=True, stable=True).tolist():
        edge = inner_edge(masks[index], thickness)
        paint[masks[index]] = tones[index]
        share[masks[index]] = FILL
        share[edge] = CONTOUR
    blended = torch.lerp(image.float(), paint, share[..., None])
    return blended.round().to(torch.uint8)


def inner_edge(mask: Bool[Tensor, "H W"], thickness_px: int) -> Bool[Tensor, "H W"]:
    """The cells of a mask within `thickness_px` of its outside; the border of the photo is no edge."""
    inside = mask
    for _ in range(thickness_px):
        shrunk = inside.clone()
        shrunk[1:] &= inside[:-1]
        shrunk[:-1] &= inside[1:]
        shrunk[:, 1:] &= inside[:, :-1]
        shrunk[:, :-1] &= inside[:, 1:]
        inside = shrunk
    return mask & ~inside


def captioned(panels: list[tuple[str, UInt8[Tensor, "H W 3"]]]) -> UInt8[Tensor, "H2 W2 3"]:
    """Pictures of one height side by side on white, each with its caption below."""
    font = ImageFont.load_default(CAPTION_PX)
    pictures = [Image.fromarray(picture.numpy()) for _, picture in panels]
    width = sum(picture.width for picture in pictures) + MARGIN_PX * (len(pictures) - 1)
    below = CAPTION_PX + 2 * MARGIN_PX
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures) + below), PAPER)
    draw, left = ImageDraw.Draw(sheet), 0
    for (caption, _), picture in zip(panels, pictures, strict=True):
        sheet.paste(picture, (left, 0))
        draw.text((left + 1, picture.height + MARGIN_PX / 2), caption, fill=INK, font=font)
        left += picture.width + MARGIN_PX
    return torch.from_numpy(np.array(sheet))
