"""Generators of masks side by side on the same photos: a leaderboard as Markdown, CSV and one page to look at.

With labels (shards that carry them, or --labels) it has AP and AR, class-agnostic, with 95 % intervals; without, what
can be told without them. What was made is kept: a run that was killed goes on, and one with more generators adds them.
The generator acseg needs weights: where pool.acseg.weights names no file, or one for another encoder, they are trained
on the photos first; with --published they are trained as published, which takes hours on a CPU.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from oapseg import storage
from oapseg.encode.encoder import Encoder, encoder_hash
from oapseg.encode.load import load_encoder, resolve
from oapseg.evaluate.compare import Row, check_names, compare, views_of
from oapseg.evaluate.generators import rounded
from oapseg.evaluate.instances import protocol
from oapseg.evaluate.overlaps import INSTANCE
from oapseg.evaluate.predict import check_side, choose_device
from oapseg.evaluate.predictions import Predictions
from oapseg.masks import rle_to_mask
from oapseg.params import Params, Source, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.concept_generator import encoder_of
from oapseg.report.gallery import thumbnail
from oapseg.report.leaderboard import Picture, Told, as_csv, as_html, as_markdown, digits, score_names
from oapseg.report.overlay import overlay
from oapseg.report.photos import best_for_each, spread
from oapseg.shards.manifest import FILE_NAME, Manifest, load_manifest
from oapseg.shards.read import Photos, Sample
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set
from oapseg.train.acg import WEIGHTS, train_concepts

MAX_PAGE_BYTES = 5_000_000  # what mail and chat carry
PICTURE_SHARE = 0.9  # of those; the rest is text
SIDE_PX = 300  # longest side of a picture on the page
PHOTOS_A_SHARD = 64  # of a folder of photos
PUBLISHED = "Settings as published for DINO's ViTs (compare.published), those of section pool where nothing is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photos(parser)
    parser.add_argument("--generators", metavar="A,B", help=f"which ones; default: all, {', '.join(GENERATORS)}")
    parser.add_argument(
        "--published",
        action="store_true",
        help="settings as published for DINO's ViTs, acseg's training too (compare.published, .published_acg)",
    )
    parser.add_argument("--out", required=True, help="folder for the leaderboard and the masks")


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Photos of a person: a folder, with labels or without, or shards."""
    parser.add_argument("photos", nargs="?", metavar="PHOTOS", help="folder of photos; folders in it are read too")
    parser.add_argument("--labels", help="COCO file of the instances in PHOTOS")
    parser.add_argument("--shards", help="shards of photos instead of PHOTOS, with the labels they carry")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    names = list(GENERATORS) if args.generators is None else args.generators.split(",")
    check_names(names)
    notes, anew = [], False
    if args.published:
        pool = params.pool.with_settings(params.compare.published)
        acg = params.acg.with_settings(params.compare.published_acg)
        params = params.model_copy(update={"pool": pool, "acg": acg})
        anew = "weights" not in params.compare.published.get("acseg", {})
        notes.append(PUBLISHED)
    manifest = photos_of(args, params)
    if "acseg" in names:
        params, note = with_concepts(params, manifest, args.out, anew=anew)
        print(note)
        notes.append(note)
    encoder = load_encoder(params.encode).to(choose_device(params.predict.device))
    run(manifest, encoder, names, params, args.out, notes=notes)


def with_concepts(params: Params, manifest: Manifest, out: str, *, anew: bool = False) -> tuple[Params, str]:
    """Parameters by which `acseg` finds weights, and whose they are.

    Those that `pool.acseg.weights` names, or, where there is no such file or it was trained for another encoder, some
    that are trained by section `acg` on the photos themselves, without labels, and kept below `out`: a run that was
    killed goes on with them, and one on other photos, with another encoder or other settings trains anew. The photos'
    side is rounded down to whole patches. Where that is not possible the parameters stay, and the note says why.

    With `anew` no file that is there already stands for the weights: they may be of any training.
    """
    below = "acg_published" if anew else "acg"
    if anew:
        params = _with_weights(params, storage.join(out, below, WEIGHTS))
    weights = params.pool.acseg.weights
    try:
        encoder = load_encoder(params.encode)
        there = not anew and storage.exists(weights)
        made_for = encoder_of(weights) if there else None
        own = encoder_hash(encoder)
    except (ValueError, OSError) as error:
        return params, f"acseg: weights of {weights} cannot be had: {error}"
    if there and made_for is None:
        return params, f"acseg: weights of {weights}, which do not say for which encoder they were trained"
    if made_for == own:
        return params, f"acseg: weights of {weights}"
    lacking = f"acseg: {weights} was trained for another encoder" if there else f"acseg: no file {weights}"
    lacking = "acseg: as published (compare.published_acg)" if anew else lacking
    if storage.is_url(out):
        return params, f"{lacking}, and weights are trained into a folder of this machine alone"
    folder = Path(out, below)
    try:
        resolve(params.encode, folder / "encoder")
        side = max(encoder.patch_px, params.acg.image_px // encoder.patch_px * encoder.patch_px)
        acg = params.acg.model_copy(update={"image_px": side})
        trained = train_concepts(params.model_copy(update={"acg": acg}), manifest, folder / "encoder", folder)
    except (ValueError, OSError, FloatingPointError) as error:
        return params, f"{lacking}, and none could be trained: {error}"
    said = f"{lacking}; weights trained on these photos in {acg.steps:,} steps of {acg.batch} photos at {side} px"
    if side != params.acg.image_px:
        said += f" (acg.image_px of {params.acg.image_px} in patches of {encoder.patch_px})"
    return _with_weights(params, str(trained)), f"{said}, without labels"


def _with_weights(params: Params, weights: str) -> Params:
    acseg = params.pool.acseg.model_copy(update={"weights": weights})
    return params.model_copy(update={"pool": params.pool.model_copy(update={"acseg": acseg})})


def photos_of(args: argparse.Namespace, params: Params) -> Manifest:
    """The photos that a command was given, as shards; those of a folder are written below `--out`.

    Errors: `ValueError` where there are none, or both kinds were given.
    """
    if (args.photos is None) == (args.shards is None):
        raise ValueError("give PHOTOS, a folder, or --shards; one of the two")
    if args.shards is not None:
        if args.labels is not None:
            raise ValueError("--labels goes with PHOTOS; shards carry their own")
        manifest = load_manifest(args.shards)
        check_photos(manifest)
        return manifest
    source = Source(kind="photos", path=".")
    if args.labels is not None:
        source = Source(kind="coco_json", path=".", photos=".", labels=str(Path(args.labels).resolve()))
    listing = list_source(source, args.photos)
    manifest = write_set(
        [listing],
        storage.join(args.out, "shards"),
        samples_per_shard=PHOTOS_A_SHARD,
        max_broken=1.0,  # they are named, and the others are compared
        max_pixels=params.shards.max_pixels,
        workers=params.shards.workers,
    )
    if not manifest.num_samples:
        raise ValueError(f"{args.photos}: none of its photos can be read: {skipped(manifest)}")
    return manifest


def check_photos(manifest: Manifest) -> None:
    """Errors: `ValueError` where a set has no photo."""
    if not manifest.num_samples:
        raise ValueError(f"{storage.join(manifest.location, FILE_NAME)}: no photo in these shards")


def skipped(manifest: Manifest) -> str:
    """The broken photos of a set by reason."""
    return ", ".join(f"{len(names)} {reason} ({names[0]})" for reason, names in sorted(manifest.skipped.items()))


def run(
    manifest: Manifest,
    encoder: Encoder,
    names: Sequence[str],
    params: Params,
    out: str,
    pooled: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Masks, scores and the leaderboard, with notes on it, in `out`; the table on the console too."""
    check_photos(manifest)
    check_side(params.predict, encoder)
    rows = compare(manifest, encoder, names, params, storage.join(out, "masks"), pooled)
    changed = [f"{said}." for name in names if (said := rounded(name, params, encoder)) is not None]
    told = Told("Generators side by side", [*_said(manifest, encoder, rows, params), *notes, *changed])
    photos = pictures(manifest, rows, params.compare.photos)
    storage.write_text(storage.join(out, "leaderboard.csv"), as_csv(rows))
    storage.write_text(storage.join(out, "leaderboard.md"), as_markdown(told, rows))
    storage.write_text(storage.join(out, "index.html"), as_html(told, rows, photos))
    _print(rows)
    print(f"Written: leaderboard.md, leaderboard.csv, index.html and masks/ in {out}")


def pictures(manifest: Manifest, rows: Sequence[Row], count: int) -> list[tuple[str, list[Picture]]]:
    """`count` photos spread over the set by name, each as every generator sees it."""
    made = {row.name: Predictions(row.folder) for row in rows if row.failure is None}
    parts = np.repeat(np.arange(len(manifest.shards)), manifest.shard_sizes)
    photos = Photos(manifest)
    numbers = spread(count, len(photos))
    limit = int(MAX_PAGE_BYTES * PICTURE_SHARE / max(1, len(numbers) * (1 + 2 * len(made))))
    shown = []
    for number in numbers:
        sample, part = photos[number], int(parts[number])
        found = {name: each.part(part).get(sample.labels["image_id"], []) for name, each in made.items()}
        shown.append((str(sample.labels["name"]), list(_pictures(sample, found, limit))))
    return shown


def _pictures(sample: Sample, found: dict[str, list[dict[str, Any]]], limit: int) -> Iterator[Picture]:
    image, rows, columns = _small(sample.image)
    labels = sample.labels.get("instances")
    truth = None
    if labels is not None and all("segmentation" in each for each in labels):
        truth = _masks([each for each in labels if not each["iscrowd"]], rows, columns)
        yield Picture("labels", _counted(truth, "thing"), [thumbnail(overlay(image, truth), limit)])
    else:
        yield Picture("photo", f"{sample.image.shape[1]} x {sample.image.shape[0]} px", [thumbnail(image, limit)])
    for name, results in found.items():
        masks = _masks([each for each in results if each["kind"] == INSTANCE], rows, columns)
        drawn, caption = [overlay(image, masks)], _counted(masks, "mask")
        if truth is not None and len(truth):
            best, overlaps = best_for_each(truth, masks)
            drawn.append(overlay(image, best))
            caption += f", mean IoU of the best {100 * float(overlaps.mean()):.0f} %"
        yield Picture(name, caption, [thumbnail(picture, limit) for picture in drawn])


def _counted(masks: Bool[Tensor, "S h w"], name: str) -> str:
    return f"{len(masks)} {name}" + "s" * (len(masks) != 1)


def _small(image: UInt8[Tensor, "H W 3"]) -> tuple[UInt8[Tensor, "h w 3"], Tensor, Tensor]:
    """The photo at the page's size, and the rows and columns of it that are left."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    rows, columns = (
        ((torch.arange(max(1, round(side * scale))) + 0.5) / max(1, round(side * scale)) * side).long()
        for side in (height, width)
    )
    pixels = torch.nn.functional.interpolate(
        image.permute(2, 0, 1)[None].float(), (len(rows), len(columns)), mode="bilinear", antialias=True
    )
    return pixels[0].permute(1, 2, 0).round().to(torch.uint8), rows, columns


def _masks(results: Sequence[dict[str, Any]], rows: Tensor, columns: Tensor) -> Bool[Tensor, "S h w"]:
    masks = [rle_to_mask(each["segmentation"])[rows][:, columns] for each in results]
    return torch.stack(masks) if masks else torch.zeros(0, len(rows), len(columns), dtype=torch.bool)


def _said(manifest: Manifest, encoder: Encoder, rows: Sequence[Row], params: Params) -> list[str]:
    """On what and how the generators were compared."""
    side = params.predict.image_px // encoder.patch_px
    broken = f"; broken and left out: {skipped(manifest)}" if manifest.skipped else ""
    lines = [
        f"{manifest.num_samples:,} photos of {manifest.source}{broken}; {side} x {side} patches; {_where(encoder)}, "
        f"{params.predict.batch} photos at a time.",
        f"The same for all: {views_of(params, encoder)}.",
    ]
    if any(row.scores for row in rows):
        lines.append(
            f"Scores in percent, in brackets 95 % intervals ({params.evaluate.bootstrap} resamples of the photos): "
            f"{protocol(params.evaluate.max_dets)}."
        )
    else:
        lines.append("No labels: nothing here says how right the masks are.")
    return lines


def _where(encoder: Encoder) -> str:
    device = encoder.mean.device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _print(rows: Sequence[Row]) -> None:
    names = score_names(rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("generator", *(name.replace("_", " ") for name in names), "masks", "s", "CPU s", "MB", "edges"):
        table.add_column(head, justify="left" if head == "generator" else "right", no_wrap=head != "generator")
    for row in rows:
        if row.failure is not None:
            table.add_row(row.name, *["-"] * (len(names) + 5))
            continue
        photos, cost = max(row.cost.photos, 1), row.cost
        scores = [f"{row.scores[name].value:.{digits(rows, name)}f}" if name in row.scores else "-" for name in names]
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
        edges = f"{cost.measures['edges']:.2f}" if "edges" in cost.measures else "-"
        masks = f"{cost.measures.get('instance', 0):.1f}"
        times = [f"{seconds / photos:.3f}" for seconds in (cost.seconds, cost.cpu_seconds)]
        table.add_row(row.name, *scores, masks, *times, peak, edges)
    console = Console(highlight=False)
    console.width = max(console.width, 0 if console.is_terminal else 120)
    console.print(table)
    for row in rows:
        if row.failure is not None:
            console.print(f"{row.name}: {row.failure}", soft_wrap=True)
