"""Photos of one bright square each, a segmenter and parameters that are small enough for a test to predict with."""

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from oapseg.encode.encoder import own_encoder
from oapseg.masks import mask_to_rle
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, Source, default_params_path
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set


def thing(left: int, top: int) -> torch.Tensor:
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[top : top + 32, left : left + 32] = True
    return mask


def labelled_shards(folder: Path) -> Path:
    _draw(folder, labelled=True)
    return _write(folder, Source(kind="coco", path=".", split="val"))


def unlabelled_shards(folder: Path) -> Path:
    _draw(folder, labelled=False)
    return _write(folder, Source(kind="photos", path="val"))


def small_params(folder: Path) -> Path:
    """The file of the shipped parameters with smaller sizes."""
    raw = yaml.safe_load(default_params_path().read_text())
    small = {"interactions": 1, "width": 16, "ffn": 16, "heads": 2, "points": 2, "pixel_layers": 1, "decoder_layers": 1}
    queries = {"queries_instance": 5, "queries_semantic": 3, "clusters": 4, "head_hidden": 8, "bottleneck": 8}
    raw["model"] |= small | queries | {"stem": 16}
    raw["predict"] |= {
        "image_px": 64,
        "window_px": 48,
        "batch": 2,
        "device": "cpu",
        "precision": "fp32",
        "max_masks": 4,
    }
    raw["evaluate"] |= {"bootstrap": 10, "max_dets": 4, "feature_clusters": 3}
    raw["report"] |= {"photos": 2}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def small_segmenter(params: Params) -> Segmenter:
    torch.manual_seed(0)
    encoder = own_encoder(width=24, depth=2, heads=2, patch_px=8, image_px=64)
    return Segmenter(encoder, params.model).eval()


def _draw(folder: Path, *, labelled: bool) -> None:
    """Three photos of one bright square each; the third has no label in it."""
    (folder / "val").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 60, (64, 96, 3), dtype=np.uint8)
        mask = thing(16 * number, 8 * number)
        pixels[mask.numpy()] = 250
        Image.fromarray(pixels).save(folder / "val" / f"{number}.jpg", quality=95)
        images.append({"id": 100 + number, "file_name": f"{number}.jpg", "width": 96, "height": 64})
        if number < 2:
            box = [16 * number, 8 * number, 32, 32]
            label = {"id": number, "image_id": 100 + number, "category_id": 4, "iscrowd": 0, "area": 1024}
            annotations.append(label | {"bbox": box, "segmentation": mask_to_rle(mask)})
    (folder / "annotations").mkdir()
    if labelled:
        found = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "square"}]}
        (folder / "annotations" / "instances_val.json").write_text(json.dumps(found))


def _write(folder: Path, source: Source) -> Path:
    out = folder / "shards" / "val"
    write_set([list_source(source, str(folder))], out, samples_per_shard=2, max_broken=0.0, max_pixels=10**6, workers=1)
    return out
