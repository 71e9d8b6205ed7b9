"""What the benchmarks of reading share: a folder of photos as shards, whole photos out of them, and a caption."""

import os
import platform
import time
from pathlib import Path

import torch

from oapseg.params import Params, Source
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Sample
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_source
from oapseg.shards.stream import Ticket
from oapseg.shards.write import write_set


def to_shards(folder: str | None, temporary: Path, params: Params) -> Manifest:
    """Shards of a folder of photos below `temporary`; without a folder, of the embedded sample, drawn there."""
    if folder is None:
        make_sample(str(temporary / "sample"), params.sample, seed=params.seed, workers=params.shards.workers)
        folder = str(temporary / "sample" / "images")
    return write_set(
        [list_source(Source(kind="photos", path="."), folder)],
        temporary / "shards",
        samples_per_shard=params.shards.samples_per_shard,
        max_broken=1.0,
        max_pixels=params.shards.max_pixels,
        workers=params.shards.workers,
    )


def whole_photo(sample: Sample, _: Ticket) -> torch.Tensor:
    return sample.image


def caption(load: float) -> str:
    """Date and machine; `load` is the machine's before anything was measured."""
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} before, "
        f"torch {torch.__version__}"
    )
