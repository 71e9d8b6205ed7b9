"""Intervals of a score by the bootstrap: photos drawn again with replacement, matched only once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

COVERAGE = 95.0  # per cent


class Measured(NamedTuple):
    """A score and what it is on each resample of the photos; both NaN where there is nothing to score."""

    value: float
    resampled: Float[np.ndarray, " R"]

    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % percentile interval; nothing where no resample could be scored."""
        known = self.resampled[~np.isnan(self.resampled)]
        if known.size == 0:
            return None
        tail = (100 - COVERAGE) / 2
        low, high = np.percentile(known, [tail, 100 - tail])
        return float(low), float(high)


def resample_photos(num_photos: int, num_resamples: int, seed: int) -> Int[np.ndarray, "R B"]:
    """How often each resample draws each photo; equal arguments give equal draws."""
    shares = np.full(num_photos, 1 / max(num_photos, 1))
    return np.random.default_rng(seed).multinomial(num_photos, shares, size=num_resamples)


def gain(after: Measured, before: Measured) -> Measured:
    """By how much one score exceeds another, paired: resample by resample of the same photos."""
    return Measured(after.value - before.value, after.resampled - before.resampled)
