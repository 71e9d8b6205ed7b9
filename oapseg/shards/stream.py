"""Which sample is drawn when: pure arithmetic on the running number of the draw."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

MIX_BLOCK = 64  # draws within which the order of the sets is mixed


class Ticket(NamedTuple):
    """A draw: sample `index` of a set, in the set's `epoch`; `draw` is its running number over all ranks."""

    set: int
    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a ticket
    draw: int


class Stream:
    """An endless sequence of draws from weighted sets, dealt to ranks.

    Draw number n is the same whatever the rank, the world or the past, and rank r takes the draws with n % world == r.
    So none is seen twice within a set's epoch, also when the world changes on the way, and a position is one number.

    `shard_sizes[s]` are the samples of each shard of set s. A shuffled epoch is a permutation by seed: shards change
    places, and samples change places within `group` consecutive shards, so that reading stays local.
    """

    def __init__(
        self,
        shard_sizes: Sequence[Sequence[int]],
        weights: Sequence[float],
        *,
        seed: int,
        rank: int,
        world: int,
        shuffle: bool,
        group: int,
    ) -> None:
        if not shard_sizes or len(shard_sizes) != len(weights):
            raise ValueError(f"stream: one weight a set is needed; {len(shard_sizes)} sets, {len(weights)} weights")
        if not all(weight > 0 and math.isfinite(weight) for weight in weights):
            raise ValueError(f"stream: weights must be above 0, are {list(weights)}")
        if not 0 <= rank < world:
            raise ValueError(f"stream: rank must be in 0..{world - 1}, is {rank}")
        if group < 1:
            raise ValueError(f"stream: group must be at least 1 shard, is {group}")
        self._sizes = [np.array(sizes, dtype=np.int64) for sizes in shard_sizes]
        self._totals = [int(sizes.sum()) for sizes in self._sizes]
        if 0 in self._totals:
            raise ValueError(f"stream: set {self._totals.index(0)} holds no sample")
        self._starts = [np.cumsum(sizes) - sizes for sizes in self._sizes]
        rest = [Fraction(weight) for weight in weights]
        self._shares = [weight / sum(rest[at:]) for at, weight in enumerate(rest)]
        self._seed, self._rank, self._world = seed, rank, world
        self._shuffle, self._group = shuffle, group
        self._begun_at = self._taken = 0
        self._mixed = lru_cache(maxsize=2)(self._mixed_block)
        self._groups = lru_cache(maxsize=2 * len(self._sizes))(self._epoch_groups)
        self._members = lru_cache(maxsize=4 * len(self._sizes))(self._group_members)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Ticket:
        first = self._begun_at + (self._rank - self._begun_at) % self._world
        ticket = self.ticket(first + self._taken * self._world)
        self._taken += 1
        return ticket

    def position(self) -> dict[str, Any]:
        """Where every rank stands when each has taken as many draws as this one: all draws below `draw` are taken."""
        return {"draw": self._begun_at + self._taken * self._world}

    def restore(self, position: dict[str, Any]) -> None:
        """Go on from a position, saved by a stream of any world."""
        draw = position.get("draw")
        if not isinstance(draw, int) or draw < 0:
            raise ValueError(f"stream: a position is {{'draw': number}}, at least 0, is {position}")
        self._begun_at, self._taken = draw, 0

    def ticket(self, draw: int) -> Ticket:
        """The draw of that number, at no cost that grows with it."""
        chosen, seen = self._choose(self._mix(draw))
        epoch, at = divmod(seen, self._totals[chosen])
        return Ticket(chosen, epoch, self._index(chosen, epoch, at) if self._shuffle else at, draw)

    def _choose(self, at: int) -> tuple[int, int]:
        """The set at a place of the sequence, and how often it came before.

        Each set in turn takes its share of what earlier sets leave (Beatty sequences, nested): shares are met to less
        than one draw at every length, and the count needs no walk through the past.
        """
        for chosen, share in enumerate(self._shares[:-1]):
            before = math.floor(at * share)
            if math.floor((at + 1) * share) > before:
                return chosen, before
            at -= before
        return len(self._shares) - 1, at

    def _mix(self, draw: int) -> int:
        """Sets of regular shares come round regularly; unmixed, one rank might see one set only."""
        if not self._shuffle or len(self._sizes) == 1:
            return draw
        block, at = divmod(draw, MIX_BLOCK)
        return block * MIX_BLOCK + int(self._mixed(block)[at])

    def _index(self, chosen: int, epoch: int, at: int) -> int:
        _, starts = self._groups(chosen, epoch)
        group = int(np.searchsorted(starts, at, side="right")) - 1
        return int(self._members(chosen, epoch, group)[at - starts[group]])

    def _mixed_block(self, block: int) -> np.ndarray:
        return np.random.default_rng([self._seed, len(self._sizes), block]).permutation(MIX_BLOCK)

    def _epoch_groups(self, chosen: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards of an epoch in their order, and the place where each group of them begins."""
        order = np.random.default_rng([self._seed, chosen, epoch]).permutation(len(self._sizes[chosen]))
        sizes = self._sizes[chosen][order]
        return order, (np.cumsum(sizes) - sizes)[:: self._group]

    def _group_members(self, chosen: int, epoch: int, group: int) -> np.ndarray:
        """The sample numbers of a group, permuted."""
        order, _ = self._groups(chosen, epoch)
        shards = order[group * self._group : (group + 1) * self._group]
        first, sizes = self._starts[chosen], self._sizes[chosen]
        members = np.concatenate([np.arange(first[shard], first[shard] + sizes[shard]) for shard in shards])
        return np.random.default_rng([self._seed, chosen, epoch, 1 + group]).permutation(members)
