"""Masks of any folder of photos: COCO results, one picture a photo, and a gallery to look at."""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from oapseg import storage
from oapseg.encode.averaged import averaged_patches
from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_encoder
from oapseg.evaluate.generators import check_name, make_generator
from oapseg.evaluate.predict import KIND_NAMES, check_side, choose_device
from oapseg.evaluate.predictions import write_results
from oapseg.masks import INSTANCE, SEMANTIC, Masks, boxes_xyxy, mask_to_rle, resize
from oapseg.params import PredictParams, load_params
from oapseg.pool.generator import Generator
from oapseg.progress import track
from oapseg.refine.levels import at_level
from oapseg.report.gallery import Entry, render_gallery, thumbnail
from oapseg.report.overlay import captioned, overlay
from oapseg.report.photos import spread
from oapseg.shards.decode import decode
from oapseg.shards.listing import existing_folder, holds, photo_names
from oapseg.shards.upright import BrokenPhoto

CATEGORY = 1  # of every mask: a generator knows no classes
PICTURE_PX = 640  # longest side of a photo in its picture
JPEG_QUALITY = 88
CHUNK_PIXELS = 1 << 24  # of masks that are large at once
GALLERY_PHOTOS = 200
GALLERY_BYTES = 20_000_000
NAMED_BROKEN = 5


class Pooled(NamedTuple):
    """A photo with its masks, on the patch grid."""

    number: int  # in the list of names
    image: UInt8[Tensor, "H W 3"]
    masks: Masks


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
    chosen = params.predict.model_copy(update={"level": level})
    pooled = pool_photos(args.photos, found, encoder, generator, chosen, params.shards.max_pixels)
    write_results(args.out / "masks.json", write_pictures(pooled, found, args.out))
    lines = summary(found)
    lines[0] += f" Encoder {params.encode.name}, photos at {params.predict.image_px} px, generator {name}."
    lines[0] += f" Level {level:g} from 0 (parts) to 1 (wholes)." if level is not None else ""
    storage.write_text(
        args.out / "index.html", render_gallery(f"Masks of {args.photos.resolve().name}", lines, found.entries)
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


def pool_photos(
    folder: Path, found: Found, encoder: Encoder, generator: Generator, params: PredictParams, max_pixels: int
) -> Iterator[Pooled]:
    """Each photo with its masks; broken ones are noted in `found` and skipped.

    Errors: `ValueError` where not one photo can be read.
    """
    starts = range(0, len(found.names), params.batch)
    for start in track(starts, "masks", len(starts)):
        images = {}
        for number, name in enumerate(found.names[start : start + params.batch], start):
            try:
                images[number] = decode(storage.read_bytes(folder / name), max_pixels)
            except (BrokenPhoto, OSError) as error:
                found.broken[name] = getattr(error, "strerror", None) or str(error)
        if images:
            views = list(images.values())
            masks = generator.batch(averaged_patches(encoder, views, params.image_px, params.scales, params.flip))
            for each, of_photo in zip(images.items(), masks, strict=True):
                yield Pooled(*each, of_level(of_photo.to("cpu"), params.level))
    if len(found.broken) == len(found.names):
        raise ValueError(f"{folder}: none of its photos can be read: {broken_names(found.broken)}")


def of_level(masks: Masks, level: float | None) -> Masks:
    """The masks of a level, all where there is none."""
    if level is None:
        return masks
    return masks.select(at_level(masks.masks, masks.level, masks.kind, masks.scores, level))


def write_pictures(pooled: Iterator[Pooled], found: Found, out: Path) -> Iterator[dict[str, Any]]:
    """The COCO results of each photo, whose picture is drawn and kept on the way."""
    shown = set(spread(GALLERY_PHOTOS, len(found.names)))
    for photo in pooled:
        name = found.names[photo.number]
        counts = {kind: int((photo.masks.kind == kind).sum()) for kind in KIND_NAMES}
        panels = draw(photo)
        link = f"overlays/{name.removesuffix('.jpg')}.jpg"
        data = io.BytesIO()
        Image.fromarray(captioned(panels).numpy()).save(data, "JPEG", quality=JPEG_QUALITY)
        storage.write_bytes(out / link, data.getvalue())
        for kind, count in counts.items():
            found.counts[kind] += count
        if photo.number in shown:
            limit = GALLERY_BYTES // (len(shown) * len(panels))
            pictures = [(caption, thumbnail(picture, limit)) for caption, picture in panels]
            height, width = photo.image.shape[:2]
            found.entries.append(Entry(name, link, f"{width} x {height} px", pictures))
        yield from coco_results(photo, name)


def draw(photo: Pooled) -> list[tuple[str, UInt8[Tensor, "H W 3"]]]:
    """The photo, its instance masks and its semantic masks, each with a caption."""
    small = shrunk(photo.image)
    panels = [("photo", small)]
    for kind, name in KIND_NAMES.items():
        masks = resize(photo.masks.masks[photo.masks.kind == kind], *small.shape[:2])
        panels.append((f"{len(masks)} {name} masks", overlay(small, masks)))
    return panels


def shrunk(image: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "h w 3"]:
    """The photo as it stands in a picture."""
    height, width = image.shape[:2]
    scale = min(1.0, PICTURE_PX / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = image.permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return small.round().clamp(0, 255).to(torch.uint8)


def coco_results(photo: Pooled, name: str) -> Iterator[dict[str, Any]]:
    """A photo's masks at its own size, as COCO results with the level and the kind of each."""
    height, width = photo.image.shape[:2]
    positions = torch.arange(len(photo.masks)).split(max(1, CHUNK_PIXELS // (height * width)))
    for chunk in positions:
        masks = photo.masks.select(chunk)
        whole = resize(masks.masks, height, width)
        for index, (left, top, right, bottom) in enumerate(boxes_xyxy(whole).tolist()):
            if right > left:  # else a photo smaller than the grid has lost the mask
                yield {
                    "image_id": photo.number + 1,
                    "file_name": name,
                    "category_id": CATEGORY,
                    "segmentation": mask_to_rle(whole[index]),
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(masks.scores[index]),
                    "level": int(masks.level[index]),
                    "kind": KIND_NAMES[int(masks.kind[index])],
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
