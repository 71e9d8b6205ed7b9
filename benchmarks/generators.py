"""Time of every generator of pseudo-masks on the same features of real photos, and its ratio to OAP's.

    python benchmarks/generators.py                       the embedded sample, 28 x 28 and 56 x 56 patches, two minutes
    python benchmarks/generators.py --photos FOLDER --sides 28 56 112 --only oap,maskcut

Generators are those of `GENERATORS`, with their sections of params.yaml; one that has a `solver` is timed with LAPACK's
(`eigh`) too, which is what its authors' code calls. Encoding is not counted. `--clock cpu` counts the time of the
process on all cores instead of the wall's, which is what a busy machine lets one compare.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from photos import caption
from rich.console import Console
from rich.table import Table

from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_encoder
from oapseg.encode.patches import Patches
from oapseg.evaluate.generators import make_generator
from oapseg.params import Params, default_params_path, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.generator import Generator
from oapseg.shards.decode import decode
from oapseg.shards.listing import photo_names
from oapseg.shards.sample import make_sample

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default=str(default_params_path()))
    parser.add_argument("--photos", type=Path, help="folder of photos; default: the embedded sample")
    parser.add_argument("--count", type=int, default=4, help="photos, pooled as a batch")
    parser.add_argument("--sides", type=int, nargs="+", default=[28, 56], help="sides of the square grids, in patches")
    parser.add_argument("--only", help="names of generators, separated by commas; OAP is timed always")
    parser.add_argument("--no-lapack", action="store_true", help="leave LAPACK's solver out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    args = parser.parse_args()
    load, params = os.getloadavg()[0], load_params(args.params)
    names = (
        list(GENERATORS) if args.only is None else ["oap", *(name for name in args.only.split(",") if name != "oap")]
    )
    encoder = load_encoder(params.encode).to(args.device)
    sets = [encoded_photos(args.photos, side, args.count, params, encoder) for side in args.sides]
    table = Table(
        "generator",
        *(f"{side} x {side}, {what}" for side in args.sides for what in ("masks", "ms a photo", "of OAP's")),
        title=f"{args.count} photos, {sets[0][0].features.shape[1]} channels, {torch.get_num_threads()} threads, "
        f"{args.clock} time",
        caption=caption(load),
    )
    oap: dict[int, float] = {}
    for name, generator in to_time(names, params, encoder, lapack=not args.no_lapack):
        cells = []
        for side, photos in zip(args.sides, sets, strict=True):
            try:
                masks, spent_ms = timed(generator, photos, args.repeats, CLOCKS[args.clock])
            except ValueError as error:  # a generator that wants weights or a photo, say
                cells += ["", str(error), ""]
                continue
            oap.setdefault(side, spent_ms)
            cells += [f"{masks:.1f}", f"{spent_ms:.0f}", f"{spent_ms / oap[side]:.2f}"]
        table.add_row(name, *cells)
    Console(width=140).print(table)


def to_time(names: list[str], params: Params, encoder: Encoder, *, lapack: bool) -> Iterator[tuple[str, Generator]]:
    """The generators with their names, OAP first, and those that have a choice of solver a second time with LAPACK."""
    for name in names:
        generator = make_generator(name, params, encoder)
        yield name, generator
        if lapack and getattr(generator, "solver", "eigh") != "eigh":
            yield f"{name}, LAPACK", dataclasses.replace(generator, solver="eigh")  # type: ignore[type-var]


def timed(generator: Generator, photos: list[Patches], repeats: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Masks a photo and the median time of a batch over its photos, in milliseconds, after a first run."""
    masks = generator.batch(photos)
    spent = []
    for _ in range(repeats):
        synchronise(photos[0])
        start = clock()
        generator.batch(photos)
        synchronise(photos[0])
        spent.append(1000 * (clock() - start) / len(photos))
    return sum(map(len, masks)) / len(photos), median(spent)


def synchronise(photo: Patches) -> None:
    if photo.features.is_cuda:
        torch.cuda.synchronize(photo.features.device)


def encoded_photos(folder: Path | None, side: int, count: int, params: Params, encoder: Encoder) -> list[Patches]:
    """Features of the first photos of a folder, or of the embedded sample, on a grid of `side` x `side` patches."""
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            make_sample(temporary, params.sample, seed=params.seed, workers=params.shards.workers)
            folder = Path(temporary) / "images"
        images = [decode((folder / name).read_bytes()) for name in islice(photo_names(folder), count)]
        return encoder.patches(images, side * encoder.patch_px)


if __name__ == "__main__":
    main()
