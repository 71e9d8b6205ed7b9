"""Time and memory of Online Agglomerative Pooling, against TokenCut and MaskCut on the same features.

    python benchmarks/oap.py             photos of the embedded sample, and features that are hard; about ten minutes
    python benchmarks/oap.py FOLDER      photos of a folder instead

First table: grids of 28 x 28 and 56 x 56 patches, times a photo. Cuts are solved by LAPACK, as TokenCut's and MaskCut's
authors call it, and by our own solver. Hard features are smooth random ones, of which the first threshold joins hardly
any neighbours: nothing gets smaller then. Second table: grids of up to 128 x 128, a photo each in a process of its own;
memory is what pooling adds to the process, in matrices of all pairs of patches. Third: what `chunk` costs there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from photos import caption
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from oapseg.encode.load import load_encoder
from oapseg.encode.patches import Patches
from oapseg.params import default_params_path, load_params
from oapseg.pool import graph
from oapseg.pool.maskcut import MaskCut
from oapseg.pool.oap import OAP
from oapseg.pool.tokencut import TokenCut
from oapseg.shards.decode import decode
from oapseg.shards.listing import photo_names
from oapseg.shards.sample import make_sample

PARAMS = load_params(default_params_path())
PARTS = {  # functions of the pooling whose own time is shown
    "grid": ("grid_spatial_similarity",),
    "rows": ("affinities", "sum_rows"),
    "vote": ("vote",),
    "pairs": ("feature_similarity", "spatial_similarity", "complete_components"),
    "components": ("connected_components", "contract_edges"),
}
PHOTOS = 4  # in a batch
SIDES = (28, 56)
LARGE = (28, 56, 84, 112, 128)
CHUNKS = (128, 448, 2048, 16384)
REPEATS = 5
LONG_MS = 2000  # of a pooling that is measured once
CHANNELS = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of photos; without it, the embedded sample")
    parser.add_argument("--alone", nargs=2, metavar=("FEATURES", "CHUNK"), help="only time and memory of one pooling")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(alone(Path(args.alone[0]), int(args.alone[1]))))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary, "sample", "images", "val")
        if args.folder is None:
            make_sample(str(Path(temporary, "sample")), PARAMS.sample, seed=PARAMS.seed, workers=2)
        for table in chain([against_cuts(folder)], growth(folder, Path(temporary, "features.safetensors"))):
            table.caption = f"{caption(load)}, {torch.get_num_threads()} threads"
            Console(width=160).print(table)


def against_cuts(folder: Path) -> Table:
    oap = OAP(**PARAMS.pool.oap)
    heads = ["features", "grid", "masks", "OAP ms", *PARTS, "rest"]
    cuts = {
        f"{name} {solver}": replace(kind(**PARAMS.pool[section]), solver=solver)
        for name, kind, section in (("TokenCut", TokenCut, "tokencut"), ("MaskCut", MaskCut, "maskcut"))
        for solver in ("eigh", "lanczos")
    }
    table = Table(*heads, *(f"{name} ms (ratio)" for name in cuts), title=f"A photo, in batches of {PHOTOS}")
    for side in SIDES:
        for name, batch in (("photos", encoded(folder, side)[:PHOTOS]), ("hard", hard(side, PHOTOS))):
            masks = oap.batch(batch)
            whole = median(milliseconds(partial(oap.batch, batch)) for _ in range(REPEATS)) / PHOTOS
            with own_times() as clock:
                oap.batch(batch)
            parts = [sum(clock[part] for part in names) / PHOTOS for names in PARTS.values()]
            line = [name, f"{side} x {side}", f"{sum(len(each.masks) for each in masks) / PHOTOS:.0f}", f"{whole:.1f}"]
            line += [f"{part:.1f}" for part in [*parts, max(0.0, whole - sum(parts))]]
            for cut in cuts.values():
                taken = milliseconds(partial(cut.batch, batch)) / PHOTOS
                line.append(f"{taken:.0f} ({taken / whole:.1f})")
            table.add_row(*line)
    return table


def growth(folder: Path, file: Path) -> Iterator[Table]:
    """Each number of a process of its own: what one needs stays behind in the memory of the next."""
    chunk = PARAMS.pool.oap.chunk
    table = Table("features", "grid", "N", "ms", "memory, MB", "in N x N", title=f"Growth, chunk {chunk}")
    largest = {}
    for name in ("photos", "hard"):
        measured = []
        for side in LARGE:
            largest[name] = (encoded(folder, side) if name == "photos" else hard(side, 1))[0]
            found = apart(largest[name], chunk, file)
            measured.append((side * side, found["ms"]))
            table.add_row(name, f"{side} x {side}", f"{side * side:,}", *shown(found))
        sizes, times = zip(*measured, strict=True)
        exponent = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        table.add_row(name, "fitted", "", f"N^{exponent:.2f}", "", "", end_section=True)
    yield table
    table = Table("features", "chunk", "ms", "memory, MB", "in N x N", title=f"{LARGE[-1]} x {LARGE[-1]} patches")
    for name, photo in largest.items():
        for chunk in CHUNKS:
            table.add_row(name, f"{chunk:,}", *shown(apart(photo, chunk, file)))
    yield table


def apart(photo: Patches, chunk: int, file: Path) -> dict[str, float]:
    save_file({"features": photo.features.contiguous(), "grid": torch.tensor(photo.grid)}, file)
    command = [sys.executable, __file__, "--alone", str(file), str(chunk)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def alone(file: Path, chunk: int) -> dict[str, float]:
    content = load_file(file)
    height, width = content["grid"].tolist()
    oap = replace(OAP(**PARAMS.pool.oap), chunk=chunk)
    oap(hard(8, 1)[0])  # what the first call of all brings along
    before = peak_bytes()
    times = [milliseconds(lambda: oap(Patches(content["features"], (height, width))))]
    memory = peak_bytes() - before
    if times[0] < LONG_MS:
        times += [milliseconds(lambda: oap(Patches(content["features"], (height, width)))) for _ in range(2)]
    return {"ms": min(times), "mb": memory / 1e6, "matrices": memory / (4 * (height * width) ** 2)}


def peak_bytes() -> int:
    """Of this program: what `getrusage` says is the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def shown(found: dict[str, float]) -> list[str]:
    return [f"{found['ms']:,.0f}", f"{found['mb']:,.0f}", f"{found['matrices']:.2f}"]


def encoded(folder: Path, side: int) -> list[Patches]:
    """Features of the first photos of a folder by the encoder of params.yaml; of one photo where the grid is large."""
    encoder = load_encoder(PARAMS.encode)
    count = PHOTOS if side in SIDES else 1
    images = [decode((folder / name).read_bytes()) for name in islice(photo_names(folder), count)]
    return encoder.patches(images, side * encoder.patch_px)


def hard(side: int, count: int) -> list[Patches]:
    """Regions of about a sixth of the side whose patches are alike, but below the first threshold."""
    photos = []
    for seed in range(count):
        random = torch.Generator().manual_seed(seed)
        coarse = F.interpolate(torch.randn(1, 8, 6, 6, generator=random), (side, side), mode="bicubic")
        share = coarse[0].flatten(1).T.mul(4).softmax(1)
        own = torch.randn(8, CHANNELS, generator=random) + 0.5 * torch.randn(CHANNELS, generator=random)
        noise = 0.5 * torch.randn(side * side, CHANNELS, generator=random)
        photos.append(Patches(F.normalize(share @ own + noise, dim=1), (side, side)))
    return photos


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


@contextmanager
def own_times() -> Iterator[dict[str, float]]:
    """Milliseconds that each function of `PARTS` takes itself, without those that it calls."""
    names = [name for part in PARTS.values() for name in part]
    plain = {name: getattr(graph, name) for name in names}
    clock = dict.fromkeys(names, 0.0)
    inner = [0.0]

    def timed(name: str) -> Callable[..., object]:
        def call(*args: object) -> object:
            result: list[object] = []
            inner.append(0.0)
            spent = milliseconds(lambda: result.append(plain[name](*args)))
            clock[name] += spent - inner.pop()
            inner[-1] += spent
            return result[0]

        return call

    for name in names:
        setattr(graph, name, timed(name))
    try:
        yield clock
    finally:
        for name, function in plain.items():
            setattr(graph, name, function)


if __name__ == "__main__":
    main()
