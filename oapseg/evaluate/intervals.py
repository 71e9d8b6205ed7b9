"""Intervals of a score by the bootstrap: photos drawn again with replacement, matched only once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from oapseg.evaluate.columns import Column, release

COVERAGE = 95.0  # per cent
DRAWN_AT_ONCE = 2**20  # counts


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
    """How often each resample draws each photo; equal arguments give equal draws. In a file where there are many."""
    shares = np.full(num_photos, 1 / max(num_photos, 1))
    rng, drawn = np.random.default_rng(seed), Column(np.int32, num_photos)
    for some in _rows_at_once(num_resamples, num_photos):
        drawn.append(rng.multinomial(num_photos, shares, size=some.stop - some.start))
    return drawn.array()


def with_all(resamples: Int[np.ndarray, "R B"]) -> Int[np.ndarray, "R+1 B"]:
    """The photos as they are, each once, before the resamples of them."""
    weights = Column(np.int32, resamples.shape[1])
    weights.append(np.ones((1, resamples.shape[1]), dtype=np.int32))
    for some in _rows_at_once(*resamples.shape):
        weights.append(resamples[some])
        release(resamples)
    return weights.array()


def _rows_at_once(num_rows: int, num_columns: int) -> Iterator[slice]:
    step = max(1, DRAWN_AT_ONCE // max(1, num_columns))
    for first in range(0, num_rows, step):
        yield slice(first, min(first + step, num_rows))


def gain(after: Measured, before: Measured) -> Measured:
    """By how much one score exceeds another, paired: resample by resample of the same photos."""
    return Measured(after.value - before.value, after.resampled - before.resampled)
