"""Batches of views, in an order that only the seed and the step decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch

from oapseg.params import PretrainParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos, Sample, loader
from oapseg.shards.stream import Stream, Ticket
from oapseg.shards.views import Views, draw_views
from oapseg.train.distributed import Placement
from oapseg.train.seeds import mix_seeds

Item = TypeVar("Item")


@dataclass(frozen=True)
class ToViews:
    """A sample as its views; the dice are seeded by the draw, so no worker's past matters."""

    params: PretrainParams
    seed: int

    def __call__(self, sample: Sample, ticket: Ticket) -> Views:
        return draw_views(
            sample.image,
            whole_px=self.params.image_px,
            local_px=self.params.local_px,
            local_count=self.params.local_count,
            local_scale=self.params.local_scale,
            generator=torch.Generator().manual_seed(mix_seeds(self.seed, ticket.draw)),
        )


@runtime_checkable
class Reading(Protocol):
    """What a training's section says of how it reads photos."""

    @property
    def batch(self) -> int: ...
    @property
    def shuffle_shards(self) -> int: ...
    @property
    def workers(self) -> int: ...


def batches(
    mix: list[tuple[Manifest, float]],
    transform: Callable[[Sample, Ticket], Item],
    reading: Reading,
    placement: Placement,
    *,
    seed: int,
    section: str,
) -> Callable[[int], Iterator[list[Item]]]:
    """This rank's batches from a given step on, for ever.

    Errors: `ValueError` where the batch of the `section` cannot be shared among the ranks.
    """
    if reading.batch % placement.world:
        raise ValueError(f"{section}.batch: {reading.batch} must be a multiple of the {placement.world} ranks")
    photos = [Photos(manifest) for manifest, _ in mix]

    def batches_from(step: int) -> Iterator[list[Item]]:
        stream = Stream(
            [manifest.shard_sizes for manifest, _ in mix],
            [weight for _, weight in mix],
            seed=seed,
            rank=placement.rank,
            world=placement.world,
            shuffle=True,
            group=reading.shuffle_shards,
        )
        stream.restore({"draw": step * reading.batch})
        return loader(photos, stream, transform, batch=reading.batch // placement.world, workers=reading.workers)

    return batches_from
