"""The loader against bare JPEG decoding of the same bytes, on one set of photos.

    python benchmarks/loader.py            the embedded sample, drawn into a temporary folder
    python benchmarks/loader.py FOLDER     any folder of photos

The loader reads shards in shuffled order, decodes and gives batches of whole photos; bare decoding is Pillow's, in one
process, of bytes that lie in memory, measured anew beside each line, since a shared machine changes its pace. Each
figure is the best of three passes, after one to warm up.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import PIL
from photos import caption, to_shards, whole_photo
from PIL import Image
from rich.console import Console
from rich.table import Table

from oapseg.params import default_params_path, load_params
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos, loader
from oapseg.shards.stream import Stream
from oapseg.storage import read_bytes

BATCH = 16
WORKERS = (0, 1, 2)
PASSES = 3
MIN_BATCHES = 24  # a pass: many more than lie ready in the loader when it begins


def bare_decoding(manifest: Manifest) -> float:
    """Photos a second of `Image.open(...).convert("RGB")` to an array, from memory."""
    photos = [
        read_bytes(manifest.url(number), offset.jpg_offset, offset.jpg_length)
        for number, shard in enumerate(manifest.shards)
        for offset in shard.offsets
    ]

    def one_pass() -> int:
        for data in photos:
            np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        return len(photos)

    return best_rate(one_pass)


def our_loader(manifest: Manifest, workers: int, group: int) -> float:
    """Photos a second of the loader, its processes already started."""
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=True, group=group)
    batches = iter(loader([Photos(manifest)], stream, whole_photo, batch=BATCH, workers=workers))
    num_batches = max(manifest.num_samples // BATCH, MIN_BATCHES)

    def one_pass() -> int:
        return sum(len(batch) for batch in islice(batches, num_batches))

    return best_rate(one_pass)


def best_rate(one_pass: Callable[[], int]) -> float:
    one_pass()
    rates = []
    for _ in range(PASSES):
        start = time.perf_counter()
        count = one_pass()
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def measure(folder: str | None) -> Table:
    params = load_params(default_params_path())
    with tempfile.TemporaryDirectory() as temporary:
        manifest = to_shards(folder, Path(temporary), params)
        megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
        table = Table(title=f"{manifest.num_samples} photos, {megabytes:.1f} MB in {len(manifest.shards)} shards")
        for heading in ("our loader", "photos/s", "bare decoding, photos/s", "ratio"):
            table.add_column(heading, justify="right")
        for workers in WORKERS:
            bare = bare_decoding(manifest)
            ours = our_loader(manifest, workers, params.pretrain.shuffle_shards)
            table.add_row(f"{workers} workers", f"{ours:.0f}", f"{bare:.0f}", f"{ours / bare:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of photos; without it, the embedded sample")
    load = os.getloadavg()[0]
    table = measure(parser.parse_args().folder)
    table.caption = f"{caption(load)}, Pillow {PIL.__version__}"
    Console().print(table)


if __name__ == "__main__":
    main()
