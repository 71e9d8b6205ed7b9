"""Clusters of features, for masks whose maker has none of its own."""

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2

from oapseg.match.features import Features

MAX_FITTED = 50_000  # features that the centres come from; more are a seeded choice
ROUNDS = 20


def fit_centres(features: Features, num_clusters: int, seed: int) -> Float[np.ndarray, "K C"]:
    """Centres by k-means with k-means++; fewer than `num_clusters` where there are fewer features."""
    rng = np.random.default_rng(seed)
    if len(features) > MAX_FITTED:
        features = features.only(np.sort(rng.choice(len(features), MAX_FITTED, replace=False)))
    fitted = features.together()
    distinct = np.unique(fitted, axis=0)
    if len(distinct) <= num_clusters:
        return distinct
    centres, _ = kmeans2(fitted.astype(np.float64), num_clusters, iter=ROUNDS, minit="++", seed=rng)
    return centres[np.isfinite(centres).all(1)]


def nearest_centre(features: Float[np.ndarray, "S C"], centres: Float[np.ndarray, "K C"]) -> Int[np.ndarray, " S"]:
    """The cluster of each feature, the first of equally near ones."""
    if len(features) == 0:
        return np.zeros(0, dtype=np.int64)
    return ((centres**2).sum(1) - 2 * features @ centres.T).argmin(1)
