"""Clusters of features: centres where the features are, the same for one seed."""

import numpy as np
import pytest

from oapseg.match import kmeans
from oapseg.match.features import Features
from oapseg.match.kmeans import fit_centres, nearest_centre


def fitted(features: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Centres of features that come in three parts."""
    parts = np.array_split(features, 3)
    return fit_centres(Features([len(part) for part in parts], parts.__getitem__), count, seed)


def heaps(count: int) -> np.ndarray:
    """Three heaps of points, far apart."""
    rng = np.random.default_rng(0)
    return (rng.normal(0, 0.1, (count, 2)) + np.array([[0, 0], [5, 5], [9, 0]])[np.arange(count) % 3]).astype("float32")


def test_what_lies_together_has_one_cluster() -> None:
    features = heaps(300)
    clusters = nearest_centre(features, fitted(features, 3))
    assert [len(set(clusters[heap::3].tolist())) for heap in range(3)] == [1, 1, 1]
    assert len(set(clusters.tolist())) == 3


def test_one_seed_gives_one_result() -> None:
    features = heaps(300)
    first, again = fitted(features, 8, 3), fitted(features, 8, 3)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_there_are_no_more_clusters_than_features(count: int) -> None:
    features = heaps(count)
    assert nearest_centre(features, fitted(features, 8)).max(initial=-1) < max(count, 1)


def test_many_features_are_fitted_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "MAX_FITTED", 30)
    features = heaps(300)
    assert len(fitted(features, 3)) == 3
