"""Time and exactness of the dense CRF, against a mean field that looks at every pair of pixels.

    python benchmarks/crf.py                 photos of the embedded sample
    python benchmarks/crf.py FOLDER          any folder of photos

Takes about two minutes on two quiet cores. Masks are those of OAP. Time is of photos of 480 px: there the brute force
is measured on a part of the rows of its matrix, one step, and scaled up. Exactness is of the same photos at 112 px,
with both deviations in px scaled down likewise, where the matrix fits in memory.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from photos import caption, to_shards
from rich.console import Console
from rich.table import Table
from torch import Tensor

from oapseg.encode.load import load_encoder
from oapseg.masks import INSTANCE, iou, resize
from oapseg.params import Params, default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.refine.crf import DenseCRF
from oapseg.shards.read import Photos

SIDE_PX, SMALL_PX = 480, 112
LABELS = (1, 2, 20)
PHOTOS = 4
ROWS = 2304  # of the brute force's matrix that are measured, 1 %
PASSES = 3


def features(image: UInt8[Tensor, "H W 3"], crf: DenseCRF) -> list[tuple[float, Float[Tensor, "N d"]]]:
    """What each kernel compares, in standard deviations, and the kernel's weight."""
    axes = [torch.arange(side) - side / 2 for side in image.shape[:2]]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
    colour = (image.flatten(0, 1).float() - 128) / crf.bilateral_sigma_colour
    alike = torch.cat([place / crf.bilateral_sigma_px, colour], 1)
    return [(crf.gaussian_weight, place / crf.gaussian_sigma_px), (crf.bilateral_weight, alike)]


def kernel(some: Float[Tensor, "n d"], every: Float[Tensor, "N d"]) -> Float[Tensor, "n N"]:
    squares = (some * some).sum(1)[:, None] + (every * every).sum(1)
    return torch.exp(some @ every.T - squares / 2)


def brute_step(image: UInt8[Tensor, "H W 3"], crf: DenseCRF, values: Float[Tensor, "N L"]) -> Float[Tensor, "n L"]:
    """Messages to the first `ROWS` pixels, without normalisation."""
    near, alike = (weight * kernel(each[:ROWS], each) @ values for weight, each in features(image, crf))
    return near + alike


def brute_masks(image: UInt8[Tensor, "H W 3"], crf: DenseCRF, masks: Bool[Tensor, "S H W"]) -> Float[Tensor, "S H W"]:
    """Probabilities of each mask alone against the background."""
    both = torch.zeros(())
    for weight, each in features(image, crf):
        matrix = kernel(each.double(), each.double())
        root = matrix.sum(1).rsqrt()
        both = both + weight * root[:, None] * matrix * root
    own = torch.where(masks, crf.certainty, 1 - crf.certainty).double().flatten(1).logit()
    probabilities = own.sigmoid()
    for _ in range(crf.steps):
        probabilities = (own + (2 * probabilities - 1) @ both).sigmoid()
    return probabilities.view(masks.shape)


def best_s(call: Callable[[], object]) -> float:
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def time_table(image: UInt8[Tensor, "H W 3"], masks: Bool[Tensor, "S H W"], crf: DenseCRF) -> Table:
    table = Table(title=f"one photo of {SIDE_PX} x {SIDE_PX} px, {crf.steps} steps")
    for heading in ("masks", "lay out, s", "all, s", "s a mask", "brute force, s (1 % of it x 100)", "ratio"):
        table.add_column(heading, justify="right")
    lay_out = best_s(lambda: crf.on(image))
    for count in LABELS:
        some = masks.repeat(count // len(masks) + 1, 1, 1)[:count]
        values = some.flatten(1).float().T.contiguous()
        ours = best_s(lambda some=some: crf.masks(image, some))  # type: ignore[misc]
        part = best_s(lambda values=values: brute_step(image, crf, values))  # type: ignore[misc]
        brute = part * (SIDE_PX * SIDE_PX / ROWS) * crf.steps
        cells = [str(count), f"{lay_out:.2f}", f"{ours:.2f}", f"{ours / count:.2f}", f"{brute:.0f}"]
        table.add_row(*cells, f"{brute / ours:.0f}")
    return table


def exactness_table(
    photos: list[UInt8[Tensor, "_H _W 3"]], found: list[Bool[Tensor, "_S _h _w"]], crf: DenseCRF
) -> Table:
    scale = SMALL_PX / SIDE_PX
    crf = replace(
        crf, gaussian_sigma_px=crf.gaussian_sigma_px * scale, bilateral_sigma_px=crf.bilateral_sigma_px * scale
    )
    table = Table(title=f"the same photos at {SMALL_PX} px: masks against brute force")
    for heading in (
        "masks",
        "pixels that agree",
        "IoU with it, mean",
        "worst",
        "changed by the CRF",
        "probability off by",
    ):
        table.add_column(heading, justify="right")
    for image, masks in zip(photos, found, strict=True):
        small, start = shrunk(image, SMALL_PX), resize(masks, SMALL_PX, SMALL_PX)
        exact = brute_masks(small, crf, start)
        ours, theirs = crf.masks(small, start), exact > 0.5
        both = torch.stack([iou(a[None], b[None])[0, 0] for a, b in zip(ours, theirs, strict=True) if (a | b).any()])
        sure = torch.stack([ours_of(small, crf, each) for each in start])
        cells = [f"{(ours == theirs).float().mean():.4f}", f"{both.mean():.3f}", f"{both.min():.3f}"]
        cells += [f"{(theirs != start).float().mean():.4f}", f"{(sure - exact).abs().mean():.4f}"]
        table.add_row(str(len(masks)), *cells)
    return table


def ours_of(image: UInt8[Tensor, "H W 3"], crf: DenseCRF, mask: Bool[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Our probability of a mask, as the first of two labels."""
    own = torch.where(mask, crf.certainty, 1 - crf.certainty)
    return crf(image, torch.stack([own, 1 - own]))[0]


def shrunk(image: UInt8[Tensor, "H W 3"], side_px: int) -> UInt8[Tensor, "side_px side_px 3"]:
    pixels = image.permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, (side_px, side_px), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def read_photos(folder: str | None, params: Params) -> list[UInt8[Tensor, "_H _W 3"]]:
    with tempfile.TemporaryDirectory() as temporary:
        manifest = to_shards(folder, Path(temporary), params)
        return [sample.image for sample in islice(Photos(manifest), PHOTOS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of photos; without it, the embedded sample")
    load = os.getloadavg()[0]
    torch.set_flush_denormal(True)  # else the brute force pays for pairs whose weight is next to nothing
    params = load_params(default_params_path())
    photos = read_photos(parser.parse_args().folder, params)
    pooled = OAP(**params.pool.oap).batch(load_encoder(params.encode).patches(photos, params.predict.image_px))
    found = [masks.masks[masks.kind == INSTANCE] for masks in pooled]
    crf = DenseCRF(**params.refine.crf)
    table = time_table(shrunk(photos[0], SIDE_PX), resize(found[0], SIDE_PX, SIDE_PX), crf)
    Console().print(exactness_table(photos, found, crf))
    table.caption = caption(load)
    Console().print(table)


if __name__ == "__main__":
    main()
