"""Similarities against scipy.spatial, those of zero vectors included."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from oapseg.pool.similarity import Metric, graph_weights, similarity

SCIPY = {"l1": "cityblock", "l2": "euclidean"}
METRICS: tuple[Metric, ...] = get_args(Metric)


def features(zeros: int = 0) -> torch.Tensor:
    made = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.5, 3, 6)
    made[:zeros] = 0
    return made


def expected(points: torch.Tensor, metric: str) -> np.ndarray:
    """1 / (1 + scipy's distance), 0 where that is not a number: what the authors' script gets."""
    exact = points.double().numpy()
    more = {"VI": np.linalg.inv(np.cov(exact.T))} if metric == "mahalanobis" else {}
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(1 / (1 + cdist(exact, exact, SCIPY.get(metric, metric), **more)))


@pytest.mark.parametrize("zeros", [0, 5])
@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric not in ("dot", "boc")])
def test_a_similarity_is_that_of_scipys_distance(metric: Metric, zeros: int) -> None:
    points = features(zeros)
    np.testing.assert_allclose(similarity(points, metric).numpy(), expected(points, metric), atol=2e-4)


@pytest.mark.parametrize("zeros", [0, 5])
def test_boc_is_bray_curtis_over_chebyshev(zeros: int) -> None:
    points = features(zeros)
    ratio = expected(points, "braycurtis") / expected(points, "chebyshev")
    np.testing.assert_allclose(similarity(points, "boc").numpy(), ratio, rtol=1e-4)


def test_mahalanobis_needs_no_more_points_than_channels() -> None:
    points = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))
    found = 1 / similarity(points, "mahalanobis") - 1
    off_diagonal = found[~torch.eye(5, dtype=torch.bool)]
    # in the space that n points span, all of them lie sqrt(2 (n - 1)) apart
    np.testing.assert_allclose(off_diagonal.numpy(), np.sqrt(8), rtol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_weights_are_symmetric_and_between_zero_and_one(metric: Metric) -> None:
    for points in (features(), features(40), features(39), torch.ones(7, 3)):
        weights = graph_weights(points, metric)
        assert torch.equal(weights, weights.T)
        assert 0 <= float(weights.min()) <= float(weights.max()) <= 1
