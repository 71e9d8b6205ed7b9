"""A self-supervised ViT that gives its tokens block by block, and the keys of its last self-attention layer."""

import hashlib
import json
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from oapseg.encode.patches import Patches


class Embedding(NamedTuple):
    """A photo's tokens on their way through the blocks."""

    tokens: Float[Tensor, "B T C"]  # prefix tokens (class, registers), then N patches
    grid: tuple[int, int]  # (h, w), N = h*w
    rope: Tensor | None  # rotary position embedding, where the ViT has one


class Encoder(nn.Module):
    """A timm ViT (plain or rotary), its normalisation, and its keys.

    `architecture` says how the ViT is built again: `{"timm": NAME}` or `{"vit": {width, depth, heads, patch_px,
    image_px}}`. Photos come as values in [0, 1]; sides must be divisible by `patch_px`.
    """

    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]

    def __init__(self, architecture: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.architecture = architecture
        self.vit: Any = build_vit(architecture)  # timm's two kinds of ViT share names, not a type
        if not isinstance(self.vit, VisionTransformer | Eva):
            raise ValueError(
                f"encode.name: {architecture} is a {type(self.vit).__name__}; allowed is a plain ViT of timm"
            )
        self.patch_px = int(self.vit.patch_embed.patch_size[0])
        self.channels = int(self.vit.embed_dim)
        self.num_blocks = len(self.vit.blocks)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def embed(self, images: Float[Tensor, "B 3 H W"]) -> Embedding:
        """Normalised photos as tokens with positions, before the first block."""
        height, width = images.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise ValueError(
                f"image_px: {height}x{width} is not divisible by the encoder's patch of {self.patch_px} px"
            )
        tokens = self.vit.patch_embed((images - self.mean) / self.std)
        positioned = self.vit._pos_embed(tokens)
        tokens, rope = positioned if isinstance(positioned, tuple) else (positioned, None)
        return Embedding(self.vit.norm_pre(tokens), (height // self.patch_px, width // self.patch_px), rope)

    def run(self, embedding: Embedding, start: int, stop: int) -> Embedding:
        """The tokens after blocks `start` to `stop` (exclusive)."""
        tokens = embedding.tokens
        for block in self.vit.blocks[start:stop]:
            tokens = block(tokens) if embedding.rope is None else block(tokens, rope=embedding.rope)
        return embedding._replace(tokens=tokens)

    def keys(self, embedding: Embedding) -> Float[Tensor, "B N C"]:
        """L2-normalised keys of the last block's self-attention, for tokens that are about to enter that block."""
        block = self.vit.blocks[-1]
        weight, bias = key_projection(block.attn)
        keys = F.linear(block.norm1(self.patch_tokens(embedding)), weight, bias)
        return F.normalize(keys.float(), dim=-1)

    def patch_tokens(self, embedding: Embedding) -> Float[Tensor, "B N C"]:
        """Tokens without class and register tokens."""
        return embedding.tokens[:, self.vit.num_prefix_tokens :]

    def use_plain_attention(self) -> None:
        """Attention by plain matrix products: on a CPU 1.6 times as fast as the fused kernel at 17 to 65 tokens."""
        for block in self.vit.blocks:
            block.attn.fused_attn = False

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """The class token after the last block, the photo as one vector; the mean patch where there is none."""
        embedding = self.run(self.embed(images), 0, self.num_blocks)
        tokens = self.vit.norm(embedding.tokens)
        return tokens[:, 0] if self.vit.num_prefix_tokens else tokens.mean(1)

    @torch.no_grad()
    def patches(self, images: list[UInt8[Tensor, "_H _W 3"]], image_px: int) -> list[Patches]:
        """Photos of any size and aspect, each resized to `image_px` squared, as `Patches` of one grid.

        Their `image` is the resized one: what looks at pixels sees no more than the encoder, whatever a photo's size.
        """
        batch = torch.stack([square(image.to(self.mean.device), image_px) for image in images])
        embedding = self.run(self.embed(batch), 0, self.num_blocks - 1)
        keys = self.keys(embedding)
        seen = (batch.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        return [Patches(features, embedding.grid, image) for features, image in zip(keys, seen, strict=True)]


def square(image: UInt8[Tensor, "H W 3"], side_px: int) -> Float[Tensor, "3 side_px side_px"]:
    """The whole photo resized to a square, values in [0, 1]; the aspect is not kept, so that every grid is one size."""
    pixels = image.permute(2, 0, 1)[None].float() / 255
    return F.interpolate(pixels, (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)[0].clamp(
        0, 1
    )


def key_projection(attention: Any) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"] | None]:
    """Weight and bias that make the keys of a timm attention layer, all heads side by side."""
    if getattr(attention, "qkv", None) is None:
        return attention.k_proj.weight, attention.k_proj.bias
    width = attention.qkv.weight.shape[0] // 3
    weight = attention.qkv.weight[width : 2 * width]
    if attention.qkv.bias is not None:
        return weight, attention.qkv.bias[width : 2 * width]
    return weight, getattr(attention, "k_bias", None)


def encoder_hash(encoder: Encoder) -> str:
    """A hash of an encoder's weights and normalisation, wherever they were read from."""
    digest = hashlib.sha256(json.dumps(encoder.architecture, sort_keys=True).encode())
    for name, tensor in {**encoder.state_dict(), "mean": encoder.mean, "std": encoder.std}.items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def build_vit(architecture: dict[str, Any]) -> nn.Module:
    """An untrained ViT that takes photos of any size divisible by its patch."""
    if "timm" in architecture:
        vit: nn.Module = timm.create_model(architecture["timm"], num_classes=0, dynamic_img_size=True)
        return vit
    size = architecture["vit"]
    return VisionTransformer(
        img_size=size["image_px"],
        patch_size=size["patch_px"],
        embed_dim=size["width"],
        depth=size["depth"],
        num_heads=size["heads"],
        num_classes=0,
        dynamic_img_size=True,
    )


def own_encoder(*, width: int, depth: int, heads: int, patch_px: int, image_px: int) -> Encoder:
    """An untrained encoder of our own sizes; `image_px` is the side that its position embeddings are laid out for."""
    size = {"width": width, "depth": depth, "heads": heads, "patch_px": patch_px, "image_px": image_px}
    return Encoder({"vit": size}, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
