"""Features of so many masks that only some are in memory: read part by part, in the order of the masks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LEAST_NORM = 1e-12


@dataclass(frozen=True)
class Features:
    """S features in parts, and how to read one."""

    counts: Sequence[int]  # of features in each part
    read: Callable[[int], Float[np.ndarray, "S C"]]

    def __len__(self) -> int:
        return sum(self.counts)

    def parts(self) -> Iterator[Float[np.ndarray, "S C"]]:
        return map(self.read, range(len(self.counts)))

    def only(self, places: Int[np.ndarray, " T"]) -> "Features":
        """Those at some places, which rise."""
        ends = np.cumsum([0, *self.counts])
        cuts = np.searchsorted(places, ends)
        chosen = [places[low:high] - start for low, high, start in zip(cuts, cuts[1:], ends, strict=False)]
        return Features([len(each) for each in chosen], lambda number: self.read(number)[chosen[number]])

    def unit(self) -> "Features":
        """The same directions, of length 1."""

        def read(number: int) -> Float[np.ndarray, "S C"]:
            features = self.read(number)
            return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), LEAST_NORM)

        return Features(self.counts, read)

    def together(self) -> Float[np.ndarray, "S C"]:
        """All of them at once."""
        filled = [number for number, count in enumerate(self.counts) if count] or list(range(len(self.counts)))[:1]
        return np.concatenate([self.read(number) for number in filled]) if filled else np.zeros((0, 1))
