"""What holds for every generator, and for those that cut by eigenvectors, on photos that nobody would take."""

import pytest
import torch
import torch.nn.functional as F
from planted_objects import planted
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.params import default_params_path, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.generator import Generator

SPECTRAL = ["tokencut", "maskcut", "divide_conquer", "deep_spectral"]
UNTRAINED = [name for name in GENERATORS if name != "acseg"]  # that one is nothing without weights


def made(name: str) -> Generator:
    generator: Generator = GENERATORS[name](**load_params(default_params_path()).pool[name])
    return generator


@pytest.fixture(params=SPECTRAL)
def generator(request: pytest.FixtureRequest) -> Generator:
    return made(request.param)


@pytest.fixture(params=UNTRAINED)
def any_generator(request: pytest.FixtureRequest) -> Generator:
    return made(request.param)


def constant(height: int, width: int) -> Patches:
    return Patches(F.normalize(torch.ones(height * width, 24), dim=1), (height, width))


def noise(height: int, width: int) -> Patches:
    features = torch.randn(height * width, 24, generator=torch.Generator().manual_seed(0))
    return Patches(F.normalize(features, dim=1), (height, width))


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (1, 40), (3, 3), (14, 14)])
def test_a_photo_without_contrast_is_one_mask_of_all_patches(generator: Generator, grid: tuple[int, int]) -> None:
    masks = generator(constant(*grid))
    assert len(masks) == 1
    assert masks.masks.all()
    assert masks.features.isfinite().all()


@pytest.mark.parametrize("grid", [(1, 2), (1, 40), (40, 1), (2, 2), (3, 3), (14, 14)])
def test_noise_gives_masks_of_the_grid(any_generator: Generator, grid: tuple[int, int]) -> None:
    masks = any_generator(noise(*grid))
    assert masks.masks.shape[1:] == grid
    assert masks.masks.flatten(1).any(1).all()
    assert masks.features.isfinite().all()


def test_features_of_zeros_are_a_photo_without_contrast_or_at_least_no_error(generator: Generator) -> None:
    masks = generator(Patches(torch.zeros(49, 24), (7, 7)))
    assert masks.masks.shape[1:] == (7, 7)
    assert masks.features.isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused_by_photo(any_generator: Generator, value: float) -> None:
    broken = noise(5, 5)
    broken.features[7, 3] = value
    with pytest.raises(ValueError, match=r"image 1 of the batch: features are not finite"):
        any_generator.batch([noise(5, 5), broken])


def test_a_grid_that_does_not_fit_is_refused(generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"image 0 of the batch: 25 patches on a grid of \(4, 5\)"):
        generator(noise(5, 5)._replace(grid=(4, 5)))


def test_a_batch_is_its_photos_in_their_order(generator: Generator) -> None:
    photos = [smooth_patches(9, 9, 24, noise=0.3, seed=0), noise(4, 6), planted(12, 12, [(3, 3, 8, 8)], channels=24)[0]]
    for masks, photo in zip(generator.batch(photos), photos, strict=True):
        alone = generator(photo)
        for field, other in zip(masks, alone, strict=True):
            assert torch.equal(field, other)
    assert generator.batch([]) == []


def test_features_have_unit_length_and_scores_are_one(generator: Generator) -> None:
    masks = generator(smooth_patches(12, 12, 24, noise=0.3, seed=1))
    assert len(masks) >= 1
    assert float((masks.features.norm(dim=1) - 1).abs().max()) < 1e-5
    assert (masks.scores == 1).all()


def test_the_mask_of_a_planted_object_is_among_those_found(generator: Generator) -> None:
    photo, truth = planted(16, 16, [(4, 4, 12, 12)], channels=96, noise=0.03)
    covered = (generator(photo).masks.any(0) & truth[0]).sum() / truth[0].sum()
    assert float(covered) > 0.75  # a median of 5 x 5 rounds corners off


def test_gradients_do_not_flow_and_the_surrounding_precision_does_not_matter(generator: Generator) -> None:
    photo = smooth_patches(12, 12, 24, noise=0.3, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = generator(photo._replace(features=photo.features.requires_grad_()))
    assert not mixed.features.requires_grad
    assert mixed.features.dtype == torch.float32
    assert torch.equal(mixed.masks, generator(photo).masks)


def test_the_same_photo_gives_the_same_masks(any_generator: Generator) -> None:
    photo = smooth_patches(16, 16, 24, noise=0.5, seed=3)
    first, second = any_generator(photo), any_generator(photo)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks(any_generator: Generator) -> None:
    batch = [planted(28, 28, [(3, 4, 11, 12), (15, 14, 25, 26)], channels=64, seed=seed)[0] for seed in range(4)]
    there = any_generator.batch([Patches(photo.features.cuda(), photo.grid) for photo in batch])
    for here, masks in zip(any_generator.batch(batch), there, strict=True):
        assert masks.masks.is_cuda
        assert torch.equal(masks.masks.cpu(), here.masks)
