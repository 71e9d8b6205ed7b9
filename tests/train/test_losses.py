"""Mask losses: their smallest values, and where the points fall."""

import torch

from oapseg.train.losses import dice_loss, mask_loss, sample_points, uncertain_points


def test_sampling_at_cell_centres_gives_the_cells() -> None:
    masks = torch.rand(2, 4, 4)
    axis = (torch.arange(4) + 0.5) / 4
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, 16, 2).expand(2, -1, -1)
    assert torch.allclose(sample_points(masks, points), masks.flatten(1), atol=1e-6)


def test_a_sure_and_right_mask_costs_nothing() -> None:
    wanted = (torch.rand(3, 50) > 0.5).float()
    sure = (wanted * 2 - 1) * 30
    assert mask_loss(sure, wanted).max() < 1e-6
    assert dice_loss(sure, wanted).max() < 1e-6
    assert dice_loss(-sure, wanted).min() > 0.9


def test_important_points_lie_where_the_prediction_is_least_sure() -> None:
    logits = torch.linspace(8, -8, 32).expand(1, 32, -1)
    generator = torch.Generator().manual_seed(0)
    points = uncertain_points(logits, 100, oversample=3.0, importance=1.0, generator=generator)
    by_chance = uncertain_points(logits, 100, oversample=3.0, importance=0.0, generator=generator)
    assert points.shape == by_chance.shape == (1, 100, 2)
    assert (points[0, :, 0] - 0.5).abs().mean() < 0.75 * (by_chance[0, :, 0] - 0.5).abs().mean()


def test_the_same_generator_gives_the_same_points() -> None:
    logits = torch.randn(2, 8, 8)
    first, second = (
        uncertain_points(logits, 20, oversample=3.0, importance=0.75, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(first, second)
