"""ViT-Adapter: a plain ViT made multi-scale by a convolutional spatial prior that exchanges features with its blocks.

The injector's scale is zero at start, so the ViT's tokens, and with them its keys, are exactly the pretrained ones.
Levels are laid out by their own sizes, so any patch size works (the published code assumes 16).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from oapseg.encode.encoder import Embedding, Encoder
from oapseg.model.deformable import DeformableAttention, cell_centres

VALUE_RATIO = 0.5  # width of the deformable values, of the tokens' (ViT-Adapter)
FFN_RATIO = 0.25  # hidden width of the extractor's feed-forward part, of the tokens' (ViT-Adapter)
NORM_CHANNELS = 16  # channels a group of the prior's norms


class Exchange(NamedTuple):
    """What the ViT and the spatial prior pass to and fro."""

    embedding: Embedding
    cells: Float[Tensor, "B M C"]  # of the prior at 1/8, 1/16 and 1/32, one level after another
    shapes: list[tuple[int, int]]


class ViTAdapter(nn.Module):
    """The multi-scale encoder: ViT, spatial prior, and an injector and extractor around each part of the blocks."""

    def __init__(self, encoder: Encoder, interactions: int, heads: int, points: int, stem: int) -> None:
        super().__init__()
        if interactions > encoder.num_blocks:
            raise ValueError(
                f"model.interactions: {interactions} is more than the encoder's {encoder.num_blocks} blocks"
            )
        width = encoder.channels
        self.encoder = encoder
        self.prior = SpatialPrior(width, stem)
        self.level_embed = nn.Parameter(torch.empty(3, width))
        nn.init.normal_(self.level_embed, std=0.02)
        self.bounds = [round(encoder.num_blocks * part / interactions) for part in range(interactions + 1)]
        self.injectors = nn.ModuleList(Injector(width, heads, points) for _ in range(interactions))
        self.extractors = nn.ModuleList(Extractor(width, heads, points) for _ in range(interactions))
        self.last_extractors = nn.ModuleList(Extractor(width, heads, points) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(4))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C _h _w"]]:
        """Maps at 1/4, 1/8, 1/16 and 1/32 of the photo."""
        stem, exchange = self._start(images)
        taken: list[Embedding] = []
        for part, extractor in enumerate(self.extractors):
            exchange = self._extract(extractor, self._run(self._inject(part, exchange), part))
            taken.append(exchange.embedding)
        for extractor in self.last_extractors:
            exchange = self._extract(extractor, exchange)
        return self._levels(stem, exchange, taken)

    def keys(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N C"], tuple[int, int]]:
        """Keys of the last self-attention layer and their grid: all that pooling needs, and no more is computed."""
        _, exchange = self._start(images)
        last = len(self.injectors) - 1
        for part in range(last):
            exchange = self._extract(self.extractors[part], self._run(self._inject(part, exchange), part))
        embedding = self._inject(last, exchange).embedding
        embedding = self.encoder.run(embedding, self.bounds[last], self.encoder.num_blocks - 1)
        return self.encoder.keys(embedding), embedding.grid

    def _start(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B C _h _w"], Exchange]:
        """The prior's finest map, which stays aside, and the rest beside the ViT's tokens."""
        encoder = self.encoder
        stem, *maps = self.prior((images - encoder.mean) / encoder.std)
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        cells = [flatten_map(level) + embed for level, embed in zip(maps, self.level_embed, strict=True)]
        return stem, Exchange(encoder.embed(images), torch.cat(cells, 1), shapes)

    def _inject(self, part: int, exchange: Exchange) -> Exchange:
        """Patch tokens take from the spatial prior; class and register tokens stay as they are."""
        embedding, cells, shapes = exchange
        prefix = self.encoder.vit.num_prefix_tokens
        patches = self.injectors[part](embedding.tokens[:, prefix:], cells, shapes, embedding.grid)
        tokens = torch.cat([embedding.tokens[:, :prefix], patches], 1)
        return exchange._replace(embedding=embedding._replace(tokens=tokens))

    def _run(self, exchange: Exchange, part: int) -> Exchange:
        """The ViT's own blocks of a part."""
        embedding = self.encoder.run(exchange.embedding, self.bounds[part], self.bounds[part + 1])
        return exchange._replace(embedding=embedding)

    def _extract(self, extractor: nn.Module, exchange: Exchange) -> Exchange:
        """The spatial prior takes from the patch tokens."""
        embedding, cells, shapes = exchange
        return exchange._replace(cells=extractor(cells, self.encoder.patch_tokens(embedding), shapes, embedding.grid))

    def _levels(
        self, stem: Float[Tensor, "B C _h _w"], exchange: Exchange, taken: list[Embedding]
    ) -> list[Float[Tensor, "B C _h _w"]]:
        """The four maps: the prior's, plus the ViT's own tokens of four depths resized to each."""
        _, cells, shapes = exchange
        maps = [
            unflatten_map(level, shape)
            for level, shape in zip(cells.split([h * w for h, w in shapes], 1), shapes, strict=True)
        ]
        maps = [stem + F.interpolate(maps[0], stem.shape[2:], mode="bilinear", align_corners=False), *maps]
        depths = [taken[min(round((len(taken) - 1) * part / 3), len(taken) - 1)] for part in range(4)]
        levels = []
        for level, depth, norm in zip(maps, depths, self.norms, strict=True):
            tokens = unflatten_map(self.encoder.patch_tokens(depth), depth.grid)
            resized = F.interpolate(tokens.float(), level.shape[2:], mode="bilinear", align_corners=False)
            levels.append(norm(level + resized))
        return levels


class SpatialPrior(nn.Module):
    """Convolutions from pixels to maps at 1/4, 1/8, 1/16 and 1/32, all as wide as the ViT."""

    def __init__(self, width: int, stem: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(3, stem, 2), *_conv(stem, stem, 1), *_conv(stem, stem, 1), nn.MaxPool2d(3, 2, padding=1)
        )
        self.down = nn.ModuleList(
            nn.Sequential(*_conv(before, after, 2))
            for before, after in ((stem, 2 * stem), (2 * stem, 4 * stem), (4 * stem, 4 * stem))
        )
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (stem, 2 * stem, 4 * stem, 4 * stem))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C _h _w"]]:
        maps = [self.stem(images)]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        return [project(level) for project, level in zip(self.project, maps, strict=True)]


class Injector(nn.Module):
    """Patch tokens attend to the spatial prior; the result is added at a learned scale that starts at zero."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.norm_query, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = DeformableAttention(width, heads, 3, points, VALUE_RATIO)
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        patches: Float[Tensor, "B N C"],
        cells: Float[Tensor, "B M C"],
        shapes: list[tuple[int, int]],
        grid: tuple[int, int],
    ) -> Float[Tensor, "B N C"]:
        reference = cell_centres([grid], patches.device)
        taken = self.attention(self.norm_query(patches), reference, self.norm_source(cells), shapes)
        return patches + self.scale * taken


class Extractor(nn.Module):
    """The spatial prior attends to patch tokens, then mixes neighbours by a depth-wise convolution."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        hidden = int(width * FFN_RATIO)
        self.norm_query, self.norm_source, self.norm_ffn = (nn.LayerNorm(width) for _ in range(3))
        self.attention = DeformableAttention(width, heads, 1, points, VALUE_RATIO)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(
        self,
        cells: Float[Tensor, "B M C"],
        patches: Float[Tensor, "B N C"],
        shapes: list[tuple[int, int]],
        grid: tuple[int, int],
    ) -> Float[Tensor, "B M C"]:
        reference = cell_centres(shapes, cells.device)
        cells = cells + self.attention(self.norm_query(cells), reference, self.norm_source(patches), [grid])
        hidden = self.widen(self.norm_ffn(cells)).split([h * w for h, w in shapes], 1)
        mixed = [
            flatten_map(self.mix(unflatten_map(level, shape))) for level, shape in zip(hidden, shapes, strict=True)
        ]
        return cells + self.narrow(F.gelu(torch.cat(mixed, 1)))


def flatten_map(level: Float[Tensor, "B C h w"]) -> Float[Tensor, "B h*w C"]:
    return level.flatten(2).transpose(1, 2)


def unflatten_map(cells: Float[Tensor, "B M C"], shape: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    return cells.transpose(1, 2).unflatten(2, shape)


def _conv(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    """Convolution, norm, activation; group norm, since the batches here are small and ranks must agree to the bit."""
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(after // NORM_CHANNELS, after), nn.ReLU()
