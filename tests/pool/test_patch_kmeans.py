"""k-means on planted clusters."""

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from oapseg.pool.kmeans import kmeans


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = rng.integers(count, size=200)
    return np.eye(count)[owner] * 5 + 0.3 * rng.standard_normal((200, count)), owner


@pytest.mark.parametrize("count", [2, 3, 6])
def test_planted_clusters_are_found_and_numbered_by_their_first_points(count: int) -> None:
    points, owner = blobs(count, seed=count)
    cluster = kmeans(points, count)
    assert len(np.unique(np.stack([cluster, owner]), axis=1).T) == count
    first = [int(np.flatnonzero(cluster == number)[0]) for number in range(count)]
    assert first == sorted(first)


def test_no_single_start_of_scipys_is_tighter() -> None:
    points = np.random.default_rng(7).standard_normal((150, 3))

    def spread(cluster: np.ndarray) -> float:
        return sum(
            float(((points[cluster == own] - points[cluster == own].mean(0)) ** 2).sum()) for own in set(cluster)
        )

    single = [spread(kmeans2(points, 4, minit="++", iter=50, rng=seed)[1]) for seed in range(5)]
    assert spread(kmeans(points, 4)) <= np.median(single) + 1e-9


def test_the_result_repeats() -> None:
    points, _ = blobs(3, seed=1)
    np.testing.assert_array_equal(kmeans(points, 5), kmeans(points, 5))


def test_more_clusters_than_distinct_points_are_as_many_as_those() -> None:
    assert kmeans(np.array([[1.0], [1.0], [2.0]]), 5).tolist() == [0, 0, 1]
    assert kmeans(np.ones((4, 2)), 3).tolist() == [0, 0, 0, 0]
    assert kmeans(np.ones((1, 2)), 3).tolist() == [0]
