"""Colour changes keep shape and range, and come from the generator alone."""

import torch

from oapseg.train.augment import blur, jitter_colour, solarize


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_values_stay_in_range_and_the_generator_decides() -> None:
    images = torch.rand(16, 3, 24, 24)
    first, second = (
        solarize(blur(jitter_colour(images, generator), 0.5, generator), 0.2, generator)
        for generator in (_generator(), _generator())
    )
    assert first.shape == images.shape
    assert -1e-6 <= first.min() <= first.max() <= 1 + 1e-6
    assert torch.equal(first, second)


def test_grey_stays_grey_under_every_change_of_colour() -> None:
    grey = torch.rand(32, 1, 8, 8).expand(-1, 3, -1, -1) * 0.5
    changed = jitter_colour(grey, _generator())
    assert torch.allclose(changed, changed[:, :1].expand(-1, 3, -1, -1), atol=1e-5)


def test_blur_of_a_flat_image_changes_nothing_and_of_noise_smooths() -> None:
    flat, noise = torch.full((4, 3, 32, 32), 0.3), torch.rand(4, 3, 32, 32)
    assert torch.allclose(blur(flat, 1.0, _generator()), flat, atol=1e-5)
    assert blur(noise, 1.0, _generator()).std() < noise.std()
    assert torch.equal(blur(noise, 0.0, _generator()), noise)
