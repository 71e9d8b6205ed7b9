"""Batches of views, in an order that only the seed and the step decide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from oapseg.params import PretrainParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos, Sample, loader
from oapseg.shards.stream import Stream, Ticket
from oapseg.shards.views import Views, draw_views
from oapseg.train.distributed import Placement
from oapseg.train.seeds import mix_seeds


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


def view_batches(
    mix: list[tuple[Manifest, float]], params: PretrainParams, placement: Placement, *, seed: int
) -> Callable[[int], Iterator[list[Views]]]:
    """This rank's batches from a given step on: one list of views a step, for ever."""
    if params.batch % placement.world:
        raise ValueError(f"pretrain.batch: {params.batch} must be a multiple of the {placement.world} ranks")
    photos = [Photos(manifest) for manifest, _ in mix]

    def batches_from(step: int) -> Iterator[list[Views]]:
        stream = Stream(
            [manifest.shard_sizes for manifest, _ in mix],
            [weight for _, weight in mix],
            seed=seed,
            rank=placement.rank,
            world=placement.world,
            shuffle=True,
            group=params.shuffle_shards,
        )
        stream.restore({"draw": step * params.batch})
        share = params.batch // placement.world
        return iter(loader(photos, stream, ToViews(params, seed), batch=share, workers=params.workers))

    return batches_from
