"""Pixel decoder: deformable self-attention over 1/8, 1/16 and 1/32, then one top-down step to 1/4 (Mask2Former)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from oapseg.model.adapter import flatten_map, unflatten_map
from oapseg.model.deformable import DeformableAttention, cell_centres

POSITION_TEMPERATURE = 10000.0  # of the sine position embedding (DETR)
LEVELS = 3


class PixelFeatures(NamedTuple):
    """What the queries look at, and what their masks are made of."""

    levels: list[Float[Tensor, "B D _h _w"]]  # 1/32, 1/16, 1/8: the order in which the decoder visits them
    mask_features: Float[Tensor, "B D H/4 W/4"]


class PixelDecoder(nn.Module):
    def __init__(self, channels: int, width: int, ffn: int, heads: int, points: int, layers: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(norm_groups(width), width)) for _ in range(LEVELS)
        )
        self.level_embed = nn.Parameter(torch.empty(LEVELS, width))
        nn.init.normal_(self.level_embed)
        self.layers = nn.ModuleList(PixelLayer(width, ffn, heads, points) for _ in range(layers))
        self.lateral = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(norm_groups(width), width))
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(norm_groups(width), width), nn.ReLU()
        )
        self.mask_features = nn.Conv2d(width, width, 1)

    def forward(self, pyramid: list[Float[Tensor, "B C _h _w"]]) -> PixelFeatures:
        """From the adapter's four maps, finest first."""
        finest, *coarser = pyramid
        maps = [project(level) for project, level in zip(self.inputs, coarser, strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        cells = torch.cat([flatten_map(level) for level in maps], 1)
        position = torch.cat(
            [
                sine_position(shape, cells.shape[-1], cells.device) + embed
                for shape, embed in zip(shapes, self.level_embed, strict=True)
            ]
        )
        reference = cell_centres(shapes, cells.device)
        for layer in self.layers:
            cells = layer(cells, position, reference, shapes)
        levels = [
            unflatten_map(level, shape)
            for level, shape in zip(cells.split([h * w for h, w in shapes], 1), shapes, strict=True)
        ]
        upsampled = F.interpolate(levels[0].float(), finest.shape[2:], mode="bilinear", align_corners=False)
        fine = self.smooth(self.lateral(finest) + upsampled)
        return PixelFeatures(levels[::-1], self.mask_features(fine))


class PixelLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward part; norm after each."""

    def __init__(self, width: int, ffn: int, heads: int, points: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads, LEVELS, points)
        self.feed_forward = nn.Sequential(nn.Linear(width, ffn), nn.ReLU(), nn.Linear(ffn, width))
        self.norm_attention, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self,
        cells: Float[Tensor, "B M D"],
        position: Float[Tensor, "M D"],
        reference: Float[Tensor, "M 2"],
        shapes: list[tuple[int, int]],
    ) -> Float[Tensor, "B M D"]:
        cells = self.norm_attention(cells + self.attention(cells + position, reference, cells, shapes))
        return self.norm_ffn(cells + self.feed_forward(cells))


def sine_position(shape: tuple[int, int], width: int, device: torch.device) -> Float[Tensor, "M D"]:
    """DETR's position embedding of a grid's cells: half the channels for y, half for x, sine and cosine in turn."""
    centres = cell_centres([shape], device) * 2 * math.pi
    depth = width // 2
    rates = POSITION_TEMPERATURE ** (2 * (torch.arange(depth, device=device) // 2) / depth)
    angles = centres.flip(1)[:, :, None] / rates
    waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1)
    return waves.flatten(1)


def norm_groups(width: int) -> int:
    """Group norm's groups: 32 as published, fewer where the width does not divide."""
    return math.gcd(32, width)
