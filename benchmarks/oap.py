"""Time and memory of Online Agglomerative Pooling, against TokenCut and MaskCut, its encoder and its device's limits.

    python benchmarks/oap.py                    on the CPU, photos of the embedded sample; about ten minutes
    python benchmarks/oap.py FOLDER             photos of a folder instead
    python benchmarks/oap.py --part chunk       one table alone: cuts, growth, chunk or limits
    python benchmarks/oap.py --device cuda      on a GPU: limits, growth and chunk; some five minutes

cuts: grids of 28 x 28 and 56 x 56 patches, times a photo. Cuts are solved by LAPACK, as TokenCut's and MaskCut's
authors call it, and by our own solver. Hard features are smooth random ones, of which the first threshold joins hardly
any neighbours: nothing gets smaller then. growth: grids of up to 128 x 128, a photo each in processes of its own;
memory is what pooling adds, in matrices of all pairs of patches, from the least to the most of five processes.
chunk: what the parameter of that name costs. limits:
bytes and flops of pooling at 56 x 56 patches against what the device can do, and an encoder's forward beside it; on a
GPU in batches of 16, with ViT-B/8 at random (its time does not depend on weights), and masks compared with the CPU's.

Beside the package (where it is not installed: `PYTHONPATH=.`) it needs torch, timm, scipy, numpy, pillow, rich,
safetensors, jaxtyping, pyyaml, and the wheels that `wheels.py` names.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
import wheels  # noqa: F401  # before the package, which needs what it looks for
from limits import Limits, Work, limits
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_encoder
from oapseg.encode.patches import Patches
from oapseg.evaluate.probe import peak_bytes
from oapseg.masks import Masks
from oapseg.params import default_params_path, load_params
from oapseg.pool import complete, components, graph, oap, on_device, regions
from oapseg.pool.maskcut import MaskCut
from oapseg.pool.oap import OAP
from oapseg.pool.tokencut import TokenCut
from oapseg.shards.decode import decode
from oapseg.shards.listing import photo_names
from oapseg.shards.sample import make_sample

PARAMS = load_params(default_params_path())
CPU = torch.device("cpu")
PARTS = {  # functions of the pooling whose own time is shown
    "grid": ("grid_spatial_similarity",),
    "rows": ("affinities", "sum_rows"),
    "vote": ("vote",),
    "pairs": ("feature_similarity", "distance", "complete_components"),
    "components": ("connected_components", "contract_edges"),
}
PHOTOS = {"cpu": 4, "cuda": 16}  # in a batch
SIDES = (28, 56)
LARGE = (28, 56, 84, 112, 128)
CHUNKS = {56: (56, 112, 168, 448, 3136), 128: (128, 256, 2048)}
REPEATS = 5
LONG_MS = 2000  # of a pooling that is measured once, in one process
PROCESSES = 5  # for the memory of a pooling on the CPU
CHANNELS = 192
WIDE = 768  # channels of ViT-B
MODEL, MODEL_PX = "vit_base_patch8_224.dino", 448


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of photos; without it, the embedded sample")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--part", choices=["cuts", "growth", "chunk", "limits"], help="one table alone")
    parser.add_argument("--alone", nargs=2, metavar=("FEATURES", "CHUNK"), help="only time and memory of one pooling")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmarks/oap.py: --device cuda: torch sees no CUDA device here; allowed without one is cpu")
    device = torch.device(args.device)
    if args.alone:
        print(json.dumps(alone(Path(args.alone[0]), int(args.alone[1]), device)))
        return
    load = os.getloadavg()[0]
    parts = [args.part] if args.part else ["limits", "growth", "chunk"] if device.type == "cuda" else list(TABLES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary, "sample", "images", "val")
        if args.folder is None:
            few = PARAMS.sample.model_copy(update={"train": 1, "val": max(PHOTOS.values())})
            make_sample(str(Path(temporary, "sample")), few, seed=PARAMS.seed, workers=2)
        for part in parts:
            table = TABLES[part](folder, device, Path(temporary, "features.safetensors"))
            table.caption = caption(device, load)
            Console(width=160).print(table)


def caption(device: torch.device, load: float) -> str:
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return (
        f"{time.strftime('%Y-%m-%d')}, {machine}, load {load:.1f} before, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


def against_cuts(folder: Path, device: torch.device, _: Path) -> Table:
    pool, photos = OAP(**PARAMS.pool.oap), PHOTOS[device.type]
    heads = ["features", "grid", "masks", "OAP ms", *PARTS, "rest"]
    cuts = {
        f"{name} {solver}": replace(kind(**PARAMS.pool[section]), solver=solver)
        for name, kind, section in (("TokenCut", TokenCut, "tokencut"), ("MaskCut", MaskCut, "maskcut"))
        for solver in ("eigh", "lanczos")
    }
    table = Table(*heads, *(f"{name} ms (ratio)" for name in cuts), title=f"A photo, in batches of {photos}")
    for side in SIDES:
        for name, batch in (("photos", encoded(folder, side, photos)), ("hard", hard(side, photos))):
            batch = on(device, batch)
            masks = pool.batch(batch)
            whole = median(milliseconds(partial(pool.batch, batch)) for _ in range(REPEATS)) / photos
            with own_times() as clock:
                pool.batch(batch)
            parts = [sum(clock[part] for part in names) / photos for names in PARTS.values()]
            line = [name, f"{side} x {side}", f"{sum(len(each.masks) for each in masks) / photos:.0f}", f"{whole:.1f}"]
            line += [f"{part:.1f}" for part in [*parts, max(0.0, whole - sum(parts))]]
            for cut in cuts.values():
                taken = milliseconds(partial(cut.batch, batch)) / photos
                line.append(f"{taken:.0f} ({taken / whole:.1f})")
            table.add_row(*line)
    return table


def growth(folder: Path, device: torch.device, file: Path) -> Table:
    """Each number of processes of their own: what one needs stays behind in the memory of the next."""
    chunk = PARAMS.pool.oap.chunk
    table = Table("features", "grid", "N", "ms", "memory, MB", "in N x N", title=f"Growth, chunk {chunk}")
    for name in ("photos", "hard"):
        sizes, measured = [side * side for side in LARGE], []
        for side in LARGE:
            photo = (encoded(folder, side, 1, device) if name == "photos" else hard(side, 1))[0]
            found = apart(photo, chunk, device, file)
            measured.append([min(each["ms"] for each in found), max(each["mb"] for each in found)])
            table.add_row(name, f"{side} x {side}", f"{side * side:,}", *shown(found))
        exponents = np.polyfit(np.log(sizes), np.log(measured), 1)[0]
        table.add_row(name, "fitted", "", *(f"N^{exponent:.2f}" for exponent in exponents), "", end_section=True)
    return table


def chunks(folder: Path, device: torch.device, file: Path) -> Table:
    """Photos at the paper's grid, and hard features where they cost most."""
    table = Table("features", "grid", "chunk", "ms", "memory, MB", "in N x N", title="Rows made at a time")
    for name, side, photo in (
        ("photos", 56, encoded(folder, 56, 1, device)[0]),
        ("hard", 56, hard(56, 1)[0]),
        ("hard", 128, hard(128, 1)[0]),
    ):
        for chunk in CHUNKS[side]:
            table.add_row(name, f"{side} x {side}", f"{chunk:,}", *shown(apart(photo, chunk, device, file)))
        table.add_section()
    return table


def against_limits(folder: Path, device: torch.device, _: Path) -> Table:
    """Pooling at 56 x 56 patches and the encoder's forward, counted and timed."""
    pool, photos, cuda = OAP(**PARAMS.pool.oap), PHOTOS[device.type], device.type == "cuda"
    known = limits(device, partial(milliseconds, device=device))
    heads = ["memory, N x N"] if cuda else []
    heads += [
        f"limit ms, {each.source}: {each.flops / 1e12:.2f} Tflop/s, {each.bandwidth / 1e9:.0f} GB/s" for each in known
    ]
    table = Table("a photo", "ms", "operations", "Gflop", "GB", *heads, title=f"Limits, batches of {photos}")
    plain = encoded(folder, 56, photos, device)
    for name, batch in (
        (f"OAP, photos, {CHANNELS} channels", plain),
        (f"OAP, photos, {WIDE} channels", [widened(photo) for photo in plain]),
        (f"OAP, hard, {CHANNELS} channels", hard(56, photos)),
    ):
        masks = pool.batch(batch) if cuda else []
        line = counted(name, partial(pool.batch, on(device, batch)), photos, device, known)
        if cuda:
            found = pool.batch(on(device, batch))
            line[0] += f"; {different(found, masks)} of {sum(map(len, masks))} masks not the CPU's"
        table.add_row(*line)
    if cuda:
        on_device.KERNELS = True
        name = f"OAP, photos, {CHANNELS} channels, components by Triton"
        table.add_row(*counted(name, partial(pool.batch, on(device, plain)), photos, device, known))
        on_device.KERNELS = False
    torch.manual_seed(0)
    encoder = (
        Encoder({"timm": MODEL}, (0.5,) * 3, (0.25,) * 3).eval().to(device) if cuda else load_encoder(PARAMS.encode)
    )
    images = torch.rand(photos, 3, MODEL_PX, MODEL_PX, device=device)
    for dtype in (torch.float32, torch.bfloat16) if cuda else (torch.float32,):

        def forward(dtype: torch.dtype = dtype) -> None:
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                embedding = encoder.embed(images)
                encoder.keys(encoder.run(embedding, 0, encoder.num_blocks - 1))

        model = MODEL if cuda else PARAMS.encode.name
        comparable = known if dtype == torch.float32 else []
        table.add_row(*counted(f"{model}, {MODEL_PX} px, {str(dtype)[6:]}", forward, photos, device, comparable))
    return table


def counted(name: str, call: Callable[[], object], photos: int, device: torch.device, known: list[Limits]) -> list[str]:
    """A line of the table: least time by each limit, and its share of the time that it took."""
    call()
    taken = median(milliseconds(call, device=device) for _ in range(REPEATS))
    with Work() as work:
        call()
    line = [name, f"{taken / photos:.2f}", f"{work.operations / photos:,.0f}"]
    line += [f"{work.flops / photos / 1e9:.1f}", f"{work.moved / photos / 1e9:.2f}"]
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        line.append(f"{(peak_bytes(device.type) - held) / photos / (4 * 56**4):.2f}")
    return line + [f"{each.ms(work) / photos:.2f} ({100 * each.ms(work) / taken:.0f} %)" for each in known]


def different(found: list[Masks], expected: list[Masks]) -> int:
    """Masks of either that the other lacks."""
    count = 0
    for ours, theirs in zip(found, expected, strict=True):
        sets = [
            {(kind, bytes(mask)) for kind, mask in zip(each.kind.tolist(), each.masks.cpu().numpy(), strict=True)}
            for each in (ours, theirs)
        ]
        count += len(sets[0] ^ sets[1])
    return count


TABLES = {"cuts": against_cuts, "growth": growth, "chunk": chunks, "limits": against_limits}


def apart(photo: Patches, chunk: int, device: torch.device, file: Path) -> list[dict[str, float]]:
    """What each of `PROCESSES` measures, fewer where one takes long: how the C library's heap lies differs."""
    save_file({"features": photo.features.cpu().contiguous(), "grid": torch.tensor(photo.grid)}, file)
    command = [sys.executable, __file__, "--device", device.type, "--alone", str(file), str(chunk)]
    found: list[dict[str, float]] = []
    while len(found) < (1 if device.type == "cuda" or (found and found[0]["ms"] > LONG_MS) else PROCESSES):
        found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    return found


def alone(file: Path, chunk: int, device: torch.device) -> dict[str, float]:
    content = load_file(file)
    height, width = content["grid"].tolist()
    pool = replace(OAP(**PARAMS.pool.oap), chunk=chunk)
    [photo] = on(device, [Patches(content["features"], (height, width))])
    pool(on(device, hard(8, 1))[0])  # what the first call of all brings along
    before = peak_bytes(device.type)
    times = [milliseconds(lambda: pool(photo), device=device)]
    memory = peak_bytes(device.type) - before
    if times[0] < LONG_MS:
        times += [milliseconds(lambda: pool(photo), device=device) for _ in range(2)]
    return {"ms": min(times), "mb": memory / 1e6, "matrices": memory / (4 * (height * width) ** 2)}


def shown(found: list[dict[str, float]]) -> list[str]:
    """The least time of some processes, and the memory of the one that took least and most."""
    ends = ((min(each[key] for each in found), max(each[key] for each in found)) for key in ("mb", "matrices"))
    memory = [
        " - ".join(dict.fromkeys(f"{end:,.{digits}f}" for end in of)) for of, digits in zip(ends, (0, 2), strict=True)
    ]
    return [f"{min(each['ms'] for each in found):,.1f}", *memory]


def encoded(folder: Path, side: int, count: int, device: torch.device = CPU) -> list[Patches]:
    """Features of the first photos of a folder by the encoder of params.yaml, on the CPU, encoded on the device."""
    encoder = load_encoder(PARAMS.encode).to(device)
    images = [decode((folder / name).read_bytes()) for name in islice(photo_names(folder), count)]
    if len(images) < count:
        sys.exit(f"benchmarks/oap.py: {folder} has {len(images)} photos; {count} are needed")
    return on(CPU, encoder.patches(images, side * encoder.patch_px))


def on(device: torch.device, batch: list[Patches]) -> list[Patches]:
    return [Patches(photo.features.to(device), photo.grid) for photo in batch]


def widened(photo: Patches) -> Patches:
    """The same patches in as many channels as ViT-B has, their cosines the same."""
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(WIDE, CHANNELS, generator=random))[0]
    return Patches(F.normalize(photo.features @ turn.T, dim=1), photo.grid)


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


def milliseconds(call: Callable[[], object], device: torch.device = CPU) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - start)


@contextmanager
def own_times() -> Iterator[dict[str, float]]:
    """Milliseconds that each function of `PARTS` takes itself, without those that it calls."""
    clock = dict.fromkeys((name for part in PARTS.values() for name in part), 0.0)
    inner = [0.0]

    def timed(name: str, plain: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            result: list[object] = []
            inner.append(0.0)
            spent = milliseconds(lambda: result.append(plain(*args)))
            clock[name] += spent - inner.pop()
            inner[-1] += spent
            return result[0]

        return call

    modules = (graph, components, complete, regions, oap)
    plain = [(module, name, getattr(module, name)) for module in modules for name in clock if hasattr(module, name)]
    for module, name, function in plain:
        setattr(module, name, timed(name, function))
    try:
        yield clock
    finally:
        for module, name, function in plain:
            setattr(module, name, function)


if __name__ == "__main__":
    main()
