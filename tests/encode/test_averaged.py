"""Patches averaged over looks lie on one grid, and a mirror image adds what lies opposite."""

import pytest
import torch

from oapseg.encode.averaged import averaged_patches
from oapseg.encode.encoder import Encoder, own_encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return own_encoder(width=24, depth=2, heads=2, patch_px=8, image_px=64).eval()


PHOTOS = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((40, 70, 3), (1, 90, 3))]


def test_one_look_alone_is_the_encoders(encoder: Encoder) -> None:
    for ours, plain in zip(averaged_patches(encoder, PHOTOS, 64, [], False), encoder.patches(PHOTOS, 64), strict=True):
        assert torch.equal(ours.features, plain.features)


def test_a_mirrored_photo_has_mirrored_features(encoder: Encoder) -> None:
    ours = averaged_patches(encoder, PHOTOS, 64, [], True)
    mirrored = averaged_patches(encoder, [photo.flip(1) for photo in PHOTOS], 64, [], True)
    for one, other in zip(ours, mirrored, strict=True):
        assert torch.allclose(one.features.view(8, 8, -1).flip(1), other.features.view(8, 8, -1), atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_scales_leave_the_grid_and_the_length_of_features(encoder: Encoder, flip: bool) -> None:
    for patches in averaged_patches(encoder, PHOTOS, 64, [48, 96], flip):
        assert patches.grid == (8, 8)
        assert torch.allclose(patches.features.norm(dim=1), torch.ones(64), atol=1e-5)
