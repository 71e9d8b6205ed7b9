"""Masks of any folder of photos: COCO results, one picture a photo, and a gallery to look at.

A photo's masks are those that the steps `predict` and `pool` make of it by the same settings, of sections `predict` and
`refine` too.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from oapseg import storage
from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_encoder
from oapseg.evaluate.generators import check_name, make_generator
from oapseg.evaluate.pooling import choice_of, dense_crf
from oapseg.evaluate.predict import (
    KIND_NAMES,
    check_side,
    choose_device,
    generator_views,
    sample_patches,
    written_masks,
)
from oapseg.evaluate.predictions import write_results
from oapseg.masks import INSTANCE, SEMANTIC, resize, rle_to_mask
from oapseg.params import Params, load_params
from oapseg.pool.generator import Generator
from oapseg.progress import track
from oapseg.report.gallery import Entry, render_gallery, thumbnail
from oapseg.report.overlay import captioned, overlay
from oapseg.report.photos import spread
from oapseg.shards.decode import decode
from oapseg.shards.listing import check_utf8, existing_folder, holds, photo_names, written_name
from oapseg.shards.read import Sample
from oapseg.shards.upright import BrokenPhoto

CATEGORY = 1  # of every mask: a generator knows no classes
PICTURE_PX = 640  # longest side of a photo in its picture
JPEG_QUALITY = 88
GALLERY_PHOTOS = 200
GALLERY_BYTES = 20_000_000
NAMED_BROKEN = 5


class Pooled(NamedTuple):
    """A photo with its masks."""

    name: str
    image: UInt8[Tensor, "H W 3"]
    results: list[dict[str, Any]]  # COCO results at the photo's size
    levels: list[int]  # of each
    coarse: Bool[Tensor, "S h w"] | None  # each on the generator's grid; none where a CRF has changed them since


@dataclass
class Found:
    """What the run comes to know on its way."""

    names: list[str]
    broken: dict[str, str] = field(default_factory=dict)  # name to reason
    counts: dict[int, int] = field(default_factory=lambda: {INSTANCE: 0, SEMANTIC: 0})
    entries: list[Entry] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photos; folders in it are read too")
    parser.add_argument("--out", required=True, type=Path, help="folder for masks.json, overlays/ and index.html")
    parser.add_argument("--level", type=float, help="from 0 (parts) to 1 (wholes); default: predict.level, all if null")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    level = params.predict.level if args.level is None else args.level
    if level is not None and not 0 <= level <= 1:
        raise ValueError(f"--level: {level:g} must be from 0 (parts) to 1 (wholes)")
    found = Found(list_photos(args.photos, args.out))
    name = params.predict.generator
    check_name(name, "predict.generator")
    encoder = load_encoder(params.encode).to(choose_device(params.predict.device))
    check_side(params.predict, encoder)
    generator = make_generator(name, params, encoder)
    params = params.model_copy(update={"predict": params.predict.model_copy(update={"level": level})})
    pooled = pool_photos(args.photos, found, encoder, generator, params)
    write_results(args.out / "masks.json", write_pictures(pooled, found, args.out))
    lines = summary(found)
    lines.insert(1, settings(params))
    storage.write_text(
        args.out / "index.html",
        render_gallery(f"Masks of {written_name(args.photos.resolve().name)}", lines, found.entries),
    )
    print("\n".join([*lines, f"Written: masks.json, overlays/ and index.html in {args.out}"]))


def list_photos(folder: Path, out: Path) -> list[str]:
    """Names of the photos below a folder, without those that an earlier run has written into `out`.

    Errors: `ValueError` where there is no folder or no photo in it.
    """
    names = photo_names(existing_folder(folder))
    names = [name for name in names if not (folder / name).resolve().is_relative_to(out.resolve() / "overlays")]
    if not names:
        raise ValueError(f"{folder}: no photo in it; {holds(folder)}")
    return names


def settings(params: Params) -> str:
    """What made the masks, in words."""
    views = generator_views(params.predict, dense_crf(params), choice_of(params))
    return (
        f"Encoder {params.encode.name}, generator {params.predict.generator}; {views}; of a photo at most "
        f"{params.predict.max_masks} masks of each kind."
    )


def pool_photos(folder: Path, found: Found, encoder: Encoder, generator: Generator, params: Params) -> Iterator[Pooled]:
    """Each photo with its masks; broken ones are noted in `found` and skipped.

    Errors: `ValueError` where not one photo can be read.
    """
    crf, choice = dense_crf(params), choice_of(params)
    starts = range(0, len(found.names), params.predict.batch)
    for start in track(starts, "masks", len(starts)):
        samples = []
        for number, name in enumerate(found.names[start : start + params.predict.batch], start):
            try:
                check_utf8(name)
                image = decode(storage.read_bytes(folder / name), params.shards.max_pixels)
            except (BrokenPhoto, OSError) as error:
                found.broken[written_name(name)] = getattr(error, "strerror", None) or str(error)
            else:
                samples.append(Sample(name, image, {"image_id": number + 1}))
        if samples:
            made = generator.batch(sample_patches(encoder, samples, params.predict))
            for sample, masks in zip(samples, made, strict=True):
                masks = masks if crf else masks.to("cpu")  # a CRF stays where the generator is
                kept, results = written_masks(sample, masks, params.predict, crf, choice)
                coarse = kept.masks if crf is None else None
                yield Pooled(sample.key, sample.image, results, kept.level.tolist(), coarse)
    if len(found.broken) == len(found.names):
        raise ValueError(f"{folder}: none of its photos can be read: {broken_names(found.broken)}")


def write_pictures(pooled: Iterator[Pooled], found: Found, out: Path) -> Iterator[dict[str, Any]]:
    """The COCO results of each photo, whose picture is drawn and kept on the way."""
    shown = {found.names[number] for number in spread(GALLERY_PHOTOS, len(found.names))}
    for photo in pooled:
        panels = draw(photo)
        link = f"overlays/{photo.name.removesuffix('.jpg')}.jpg"
        data = io.BytesIO()
        Image.fromarray(captioned(panels).numpy()).save(data, "JPEG", quality=JPEG_QUALITY)
        storage.write_bytes(out / link, data.getvalue())
        for kind, name in KIND_NAMES.items():
            found.counts[kind] += sum(result["kind"] == name for result in photo.results)
        if photo.name in shown:
            limit = GALLERY_BYTES // (len(shown) * len(panels))
            pictures = [(caption, thumbnail(picture, limit)) for caption, picture in panels]
            height, width = photo.image.shape[:2]
            found.entries.append(Entry(photo.name, link, f"{width} x {height} px", pictures))
        yield from coco_results(photo)


def draw(photo: Pooled) -> list[tuple[str, UInt8[Tensor, "H W 3"]]]:
    """The photo, its instance masks and its semantic masks, each with a caption."""
    small = shrunk(photo.image)
    panels = [("photo", small)]
    masks = in_picture(photo, (small.shape[0], small.shape[1]))
    for name in KIND_NAMES.values():
        own = masks[torch.tensor([result["kind"] == name for result in photo.results], dtype=torch.bool)]
        panels.append((f"{len(own)} {name} masks", overlay(small, own)))
    return panels


def in_picture(photo: Pooled, size: tuple[int, int]) -> Bool[Tensor, "S H W"]:
    """Each mask at the size of the picture; one that was refined comes from the photo's size, one at a time."""
    if photo.coarse is not None:
        return resize(photo.coarse, *size)
    whole = (rle_to_mask(result["segmentation"])[None] for result in photo.results)
    return torch.cat([torch.zeros(0, *size, dtype=torch.bool), *(resize(each, *size) for each in whole)])


def shrunk(image: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "h w 3"]:
    """The photo as it stands in a picture."""
    height, width = image.shape[:2]
    scale = min(1.0, PICTURE_PX / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = image.permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return small.round().clamp(0, 255).to(torch.uint8)


def coco_results(photo: Pooled) -> Iterator[dict[str, Any]]:
    """A photo's masks as COCO results, with the level and the kind of each."""
    for result, level in zip(photo.results, photo.levels, strict=True):
        yield {
            "image_id": result["image_id"],
            "file_name": photo.name,
            "category_id": CATEGORY,
            "segmentation": result["segmentation"],
            "bbox": result["bbox"],
            "score": result["score"],
            "level": level,
            "kind": result["kind"],
        }


def summary(found: Found) -> list[str]:
    """What was found, in a line or three."""
    read = len(found.names) - len(found.broken)
    kinds = " and ".join(f"{found.counts[kind]:,} {name}" for kind, name in KIND_NAMES.items())
    lines = [f"{read:,} photo{'s' * (read != 1)} with {kinds} masks."]
    if found.broken:
        lines.append(f"{len(found.broken):,} broken and skipped: {broken_names(found.broken)}.")
    if len(found.entries) < read:
        lines.append(f"The gallery shows {len(found.entries):,} photos, spread evenly; overlays/ holds all.")
    return lines


def broken_names(broken: dict[str, str]) -> str:
    """The first of photos that are broken, by name, with their reasons."""
    named = [f"{name} ({reason})" for name, reason in list(broken.items())[:NAMED_BROKEN]]
    more = len(broken) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")
