"""Which channels are kept: entropies against scipy.stats, planted noise and planted constants."""

import numpy as np
import torch
from scipy import stats

from oapseg.pool.channels import channel_entropy, quiet_channels, varied_channels


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_entropy_is_scipys_of_numpys_histogram() -> None:
    features = drawn(500, 8) ** 3
    expected = [stats.entropy(np.histogram(channel, bins=30)[0], base=2) for channel in features.T.numpy()]
    np.testing.assert_allclose(channel_entropy(features, 30).numpy(), expected, atol=1e-5)


def test_a_constant_channel_has_no_entropy_and_an_even_one_all_of_it() -> None:
    features = torch.stack([torch.full((90,), 0.3), torch.linspace(0, 1, 90)], 1)
    np.testing.assert_allclose(channel_entropy(features, 30).numpy(), [0, np.log2(30)], atol=1e-6)


def test_noise_is_dropped_before_channels_that_are_background_and_object() -> None:
    object_ = torch.zeros(400, 1)
    object_[150:220] = 1
    features = torch.cat([drawn(400, 4), object_ + 0.01 * drawn(400, 2, seed=1)], 1)
    assert sorted(quiet_channels(features, 1 / 3, 30).tolist()) == [4, 5]


def test_an_empty_bin_counts_as_noise_where_the_released_script_has_it_so() -> None:
    two_values = torch.tensor([0.0, 1.0]).repeat(300)[:, None]
    features = torch.cat([two_values, torch.rand(600, 1, generator=torch.Generator().manual_seed(3))], 1)
    assert quiet_channels(features, 0.5, 30).tolist() == [0]
    assert quiet_channels(features, 0.5, 30, "noise").tolist() == [1]


def test_at_least_one_channel_is_kept() -> None:
    assert len(quiet_channels(drawn(20, 3), 0.01, 30)) == 1


def test_the_most_varied_channels_are_kept() -> None:
    scale = torch.tensor([0.1, 5.0, 1.0, 3.0])
    assert varied_channels(drawn(300, 4) * scale, 2).tolist() == [1, 3]
    assert len(varied_channels(drawn(300, 4), 0)) == 4
