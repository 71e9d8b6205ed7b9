"""The embedded sample: drawn photos with exact instance, semantic and panoptic labels, in COCO's layout."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from oapseg import storage
from oapseg.params import SampleParams, load_params
from oapseg.progress import track
from oapseg.shards.scenes.compose import CATEGORIES, Numbers, draw_scene

SPLITS = ("train", "val")
JPEG_QUALITY = 92
ID_STEP = 0x9E3779  # odd, so that ids differ modulo 2^24; far apart, so that neighbours differ in colour
CHUNK = 8  # photos a task
LICENCE = {"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}


class _Drawn(NamedTuple):
    """What the annotation files say of one photo."""

    image: dict[str, Any]
    instances: list[dict[str, Any]]
    panoptic: dict[str, Any]


def make_sample(out: str | Path, params: SampleParams, *, seed: int, workers: int) -> None:
    """Draw the photos and labels of both splits into the folder `out`, over an earlier sample there.

    `images/<split>/`, and in `annotations/`: `instances_<split>.json`, `panoptic_<split>.json` with PNGs, and
    `semantic_<split>/` with PNGs whose pixel is the category id. Photo n of a split depends on the seed and n alone.
    """
    root = Path(out)
    _clear(root)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for split, count in zip(SPLITS, (params.train, params.val), strict=True):
            for folder in _folders(root, split):
                folder.mkdir(parents=True, exist_ok=True)
            tasks = pool.map(
                _draw, range(count), repeat(root), repeat(split), repeat(seed), repeat(params.size_px), chunksize=CHUNK
            )
            _write_annotations(root, split, list(track(tasks, f"sample {split}", total=count)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder for the photos and their labels")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    make_sample(args.out, params.sample, seed=params.seed, workers=params.shards.workers)


def _folders(root: Path, split: str) -> tuple[Path, Path, Path]:
    """Where the photos, the panoptic PNGs and the semantic PNGs of a split are."""
    annotations = root / "annotations"
    return root / "images" / split, annotations / f"panoptic_{split}", annotations / f"semantic_{split}"


def _clear(root: Path) -> None:
    """Remove an earlier sample, which may have had more photos; nothing else has such names."""
    for split in SPLITS:
        for folder in _folders(root, split):
            for path in folder.glob("scene_*"):
                path.unlink()


def _draw(number: int, root: Path, split: str, seed: int, size_px: int) -> _Drawn:
    """Draw photo `number`, write its three pictures, and tell its labels."""
    image_id = number + 1
    scene = draw_scene(np.random.default_rng([seed, SPLITS.index(split), number]), size_px)
    name = f"scene_{image_id:06d}"
    photos, panoptic, semantic = _folders(root, split)
    Image.fromarray(scene.image).save(photos / f"{name}.jpg", quality=JPEG_QUALITY, subsampling=0)
    segments = [_segment(scene.numbers, at, category, image_id) for at, category in enumerate(scene.segments)]
    ids = np.array([segment["id"] for segment in segments])[scene.numbers]
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(panoptic / f"{name}.png")
    Image.fromarray(np.array(scene.segments, np.uint8)[scene.numbers]).save(semantic / f"{name}.png")
    things = [segment for segment in segments if CATEGORIES[segment["category_id"] - 1]["isthing"]]
    listed = [{key: value for key, value in segment.items() if key != "segmentation"} for segment in segments]
    return _Drawn(
        {"id": image_id, "file_name": f"{name}.jpg", "width": size_px, "height": size_px, "license": LICENCE["id"]},
        [{**segment, "image_id": image_id} for segment in things],
        {"image_id": image_id, "file_name": f"{name}.png", "segments_info": listed},
    )


def _segment(numbers: Numbers, at: int, category: int, image_id: int) -> dict[str, Any]:
    """The COCO annotation of one segment; its id is unique in the split, and its colour in the panoptic PNG."""
    rle = coco_mask.encode(np.asfortranarray(numbers == at))
    return {
        "id": (image_id * 64 + at) * ID_STEP % 2**24,
        "category_id": category,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
    }


def _write_annotations(root: Path, split: str, drawn: list[_Drawn]) -> None:
    info = {"description": "oapseg embedded sample: drawn scenes"}
    common = {"info": info, "licenses": [LICENCE], "images": [one.image for one in drawn]}
    things = [category for category in CATEGORIES if category["isthing"]]
    instances = [instance for one in drawn for instance in one.instances]
    panoptic = [one.panoptic for one in drawn]
    annotations = root / "annotations"
    storage.write_json(
        annotations / f"instances_{split}.json", {**common, "annotations": instances, "categories": things}
    )
    storage.write_json(
        annotations / f"panoptic_{split}.json", {**common, "annotations": panoptic, "categories": list(CATEGORIES)}
    )
