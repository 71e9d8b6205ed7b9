"""Keys are the keys: equal to those that the encoder's own attention computes."""

import pytest
import torch

from oapseg.encode.encoder import Encoder, own_encoder, square

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VITS = [
    {"vit": {"width": 32, "depth": 2, "heads": 2, "patch_px": 8, "image_px": 64}},
    {"timm": "vit_small_patch16_224.dino"},
    {"timm": "vit_small_patch14_dinov2"},
    {"timm": "vit_small_patch14_reg4_dinov2"},
    {"timm": "vit_small_patch16_dinov3"},
]


@pytest.fixture(params=VITS, ids=lambda architecture: str(architecture.get("timm", "own")))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(request.param, MEAN, STD).eval()
    for parameter in encoder.parameters():  # freshly built biases and norms are zeros and ones, and would hide an error
        parameter.data += 0.02 * torch.randn_like(parameter)
    return encoder


@torch.no_grad()
def test_keys_equal_those_of_the_attention_by_hand(encoder: Encoder) -> None:
    seen = {}
    attention = encoder.vit.blocks[-1].attn
    attention.register_forward_pre_hook(lambda _module, inputs: seen.update(x=inputs[0]))
    images = torch.rand(2, 3, 6 * encoder.patch_px, 4 * encoder.patch_px)
    embedding = encoder.embed(images)
    keys = encoder.keys(encoder.run(embedding, 0, encoder.num_blocks - 1))
    encoder.run(embedding, 0, encoder.num_blocks)

    batch, tokens, channels = seen["x"].shape
    bias = attention.qkv.bias
    if bias is None and getattr(attention, "q_bias", None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    qkv = torch.nn.functional.linear(seen["x"], attention.qkv.weight, bias)
    by_hand = qkv.view(batch, tokens, 3, channels)[:, encoder.vit.num_prefix_tokens :, 1]
    by_hand = by_hand / by_hand.norm(dim=-1, keepdim=True)
    assert keys.shape == (2, 24, channels)
    assert torch.allclose(keys, by_hand, atol=1e-6)


@torch.no_grad()
def test_running_block_by_block_equals_the_whole_vit(encoder: Encoder) -> None:
    images = torch.rand(1, 3, 4 * encoder.patch_px, 4 * encoder.patch_px)
    by_block = encoder.vit.norm(encoder.run(encoder.embed(images), 0, encoder.num_blocks).tokens)
    whole = encoder.vit.forward_features((images - encoder.mean) / encoder.std)
    assert torch.allclose(by_block, whole, atol=1e-5)


def test_photos_of_any_aspect_give_one_grid(encoder: Encoder) -> None:
    side = 5 * encoder.patch_px
    photos = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((40, 90, 3), (200, 31, 3))]
    for patches, photo in zip(encoder.patches(photos, side), photos, strict=True):
        assert patches.grid == (5, 5)
        assert patches.features.shape == (25, encoder.channels)
        assert torch.allclose(patches.features.norm(dim=1), torch.ones(25), atol=1e-5)
        assert patches.image is not None
        seen = square(photo, side).permute(1, 2, 0) * 255
        assert (patches.image - seen).abs().max() <= 0.5


def test_plain_attention_gives_the_same_tokens() -> None:
    torch.manual_seed(0)
    encoder = own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64).eval()
    images = torch.rand(1, 3, 64, 64)
    fused = encoder(images)
    encoder.use_plain_attention()
    assert torch.allclose(fused, encoder(images), atol=1e-6)


def test_a_side_that_the_patch_does_not_divide_is_refused() -> None:
    encoder = own_encoder(width=32, depth=1, heads=2, patch_px=8, image_px=64)
    with pytest.raises(ValueError, match="not divisible by the encoder's patch of 8 px"):
        encoder.embed(torch.rand(1, 3, 60, 64))


def test_square_keeps_values_in_range() -> None:
    photo = torch.tensor([0, 255], dtype=torch.uint8).repeat(50, 50)[..., None].expand(-1, -1, 3)
    resized = square(photo.contiguous(), 64)
    assert resized.shape == (3, 64, 64)
    assert 0 <= resized.min() <= resized.max() <= 1
