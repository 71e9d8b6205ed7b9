"""Time of Online Agglomerative Pooling, against one normalised cut by eigenvectors on the same features.

    python benchmarks/oap.py                                  smooth random features: 28 x 28 and 56 x 56 patches
    python benchmarks/oap.py --photos FOLDER                  and features of photos by the encoder of params.yaml

Takes about a minute on two cores. The cut is TokenCut's: affinity above 0.2 or else 1e-5, second eigenvector of the
generalised problem by scipy (LAPACK). MaskCut solves up to three such cuts a photo.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from rich.console import Console
from rich.table import Table
from torch import Tensor

from oapseg.encode.load import load_encoder
from oapseg.encode.patches import Patches
from oapseg.params import Params, default_params_path, load_params
from oapseg.pool import graph
from oapseg.pool.oap import OAP
from oapseg.shards.decode import decode
from oapseg.shards.listing import photo_names

TOKENCUT_TAU, TOKENCUT_EPS = 0.2, 1e-5
PARTS = {  # functions of the pooling whose own time is shown
    "similarity": ("feature_similarity", "spatial_similarity"),
    "components": ("connected_components", "contract_edges"),
    "row means": ("sum_rows",),
    "vote": ("vote",),
    "all pairs": ("complete_components",),
}
SIZES = [(28, 192), (28, 384), (28, 768), (56, 192), (56, 384), (56, 768)]  # side in patches, channels
PHOTOS = 4  # in a batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default=str(default_params_path()))
    parser.add_argument("--photos", type=Path, help="folder of photos, for features of an encoder")
    parser.add_argument("--image-px", type=int, nargs="+", default=[224, 448], help="sides of the photos")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-cut", action="store_true", help="leave the normalised cut out")
    args = parser.parse_args()
    params = load_params(args.params)
    oap = OAP(**params.pool.oap)
    columns = ["features", "grid", "C", "masks", "OAP ms", *PARTS, "rest", "cut ms", "ratio"]
    cpu = f"{platform.machine()}, {torch.get_num_threads()} threads"
    machine = cpu if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    table = Table(*columns, title=f"{datetime.now(UTC):%Y-%m-%d}, {machine}, vote {oap.vote}, batches of {PHOTOS}")
    sets = [(f"random {side}", smooth_photos(side, channels)) for side, channels in SIZES]
    sets += [(f"photos {px} px", encoded_photos(args.photos, px, params)) for px in args.image_px if args.photos]
    for name, photos in sets:
        table.add_row(name, *row(oap, photos, torch.device(args.device), args.repeats, not args.no_cut))
    Console(width=150).print(table)


def row(oap: OAP, photos: list[Patches], device: torch.device, repeats: int, with_cut: bool) -> list[str]:
    """One line of the table; times are medians in milliseconds a photo, pooled as a batch."""
    batch = [Patches(photo.features.to(device), photo.grid) for photo in photos]
    masks = oap.batch(batch)
    whole = median(milliseconds(lambda: oap.batch(batch), device) for _ in range(repeats)) / len(batch)
    with own_times(device) as clock:
        oap.batch(batch)
    parts = [sum(clock[name] for name in names) / len(batch) for names in PARTS.values()]
    (height, width), channels = photos[0].grid, photos[0].features.shape[1]
    line = [f"{height} x {width}", str(channels), f"{sum(map(len, masks)) / len(masks):.0f}", f"{whole:.1f}"]
    line += [f"{part:.1f}" for part in [*parts, max(0.0, whole - sum(parts))]]
    if not with_cut:
        return [*line, "", ""]
    cut = milliseconds(lambda: normalised_cut(photos[0].features), torch.device("cpu"))
    return [*line, f"{cut:.0f}", f"{cut / whole:.0f}"]


def normalised_cut(features: Float[Tensor, "N C"]) -> Float64[Tensor, " N"]:
    """Second eigenvector of (D - A) x = lambda D x."""
    affinity = (features @ features.T).numpy()
    weight = np.where(affinity > TOKENCUT_TAU, 1.0, TOKENCUT_EPS)
    degree = np.diag(weight.sum(1))
    _, vectors = scipy.linalg.eigh(degree - weight, degree, subset_by_index=[1, 1])
    return torch.from_numpy(vectors[:, 0])


def smooth_photos(side: int, channels: int) -> list[Patches]:
    """Features that look like photos': regions of about a sixth of the side, and noise."""
    photos = []
    for seed in range(PHOTOS):
        random = torch.Generator().manual_seed(seed)
        coarse = F.interpolate(torch.randn(1, 8, 6, 6, generator=random), (side, side), mode="bicubic")
        share = coarse[0].flatten(1).T.mul(4).softmax(1)
        own = torch.randn(8, channels, generator=random) + 0.5 * torch.randn(channels, generator=random)
        noise = 0.5 * torch.randn(side * side, channels, generator=random)
        photos.append(Patches(F.normalize(share @ own + noise, dim=1), (side, side)))
    return photos


def encoded_photos(folder: Path, image_px: int, params: Params) -> list[Patches]:
    """Features of the first photos of a folder."""
    encoder = load_encoder(params.encode)
    images = [decode((folder / name).read_bytes()) for name in islice(photo_names(folder), PHOTOS)]
    return encoder.patches(images, image_px)


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of a call, its work on the device done."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return 1000 * (time.perf_counter() - start)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def own_times(device: torch.device) -> Iterator[dict[str, float]]:
    """Milliseconds that each function of `PARTS` takes itself, without those that it calls."""
    names = [name for part in PARTS.values() for name in part]
    plain = {name: getattr(graph, name) for name in names}
    clock = dict.fromkeys(names, 0.0)
    inner = [0.0]

    def timed(name: str) -> Callable[..., object]:
        def call(*args: object) -> object:
            result: list[object] = []
            inner.append(0.0)
            spent = milliseconds(lambda: result.append(plain[name](*args)), device)
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
