"""Clusters of points by k-means, the same every time."""

import numpy as np
from jaxtyping import Float, Int

RESTARTS = 10  # starts by k-means++, of which the tightest result counts
ROUNDS = 100  # of Lloyd's algorithm at most


def kmeans(points: Float[np.ndarray, "N D"], num_clusters: int) -> Int[np.ndarray, " N"]:
    """The cluster of each point, numbered by first points; fewer clusters where there are fewer distinct points."""
    num_clusters = min(num_clusters, len(np.unique(points, axis=0)))
    if num_clusters < 2:
        return np.zeros(len(points), dtype=np.int64)
    rng = np.random.default_rng(0)
    tries = [_lloyd(points, _spread(points, num_clusters, rng)) for _ in range(RESTARTS)]
    cluster = min(tries, key=lambda each: each[0])[1]
    _, first, cluster = np.unique(cluster, return_index=True, return_inverse=True)
    return first.argsort().argsort()[cluster]


def _spread(points: Float[np.ndarray, "N D"], num_clusters: int, rng: np.random.Generator) -> Float[np.ndarray, "K D"]:
    """Starting centres by k-means++: each a point, drawn by its squared distance to those before."""
    centres = points[[rng.integers(len(points))]]
    while len(centres) < num_clusters:
        far = _squared(points, centres).min(1)
        centres = np.concatenate([centres, points[[rng.choice(len(points), p=far / far.sum())]]])
    return centres


def _lloyd(points: Float[np.ndarray, "N D"], centres: Float[np.ndarray, "K D"]) -> tuple[float, Int[np.ndarray, " N"]]:
    """Centres to the means of their points until no point moves: the sum of squares, and the cluster of each point."""
    cluster = np.full(len(points), -1)
    for _ in range(ROUNDS):
        squared = _squared(points, centres)
        nearest = squared.argmin(1)
        if (nearest == cluster).all():
            break
        cluster = nearest
        sizes = np.bincount(cluster, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, points)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return float(_squared(points, centres).min(1).sum()), cluster


def _squared(points: Float[np.ndarray, "N D"], centres: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "N K"]:
    return ((points[:, None] - centres) ** 2).sum(2)
