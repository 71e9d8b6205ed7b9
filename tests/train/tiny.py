"""A training small enough for a test, with every part of the real one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.params import Params, SetParams, Source, load_params, parse_params
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set

SIZES: dict[str, dict[str, Any]] = {
    "model": {
        "interactions": 2,
        "stem": 16,
        "width": 32,
        "ffn": 32,
        "heads": 2,
        "points": 2,
        "pixel_layers": 1,
        "decoder_layers": 2,
        "queries_instance": 8,
        "queries_semantic": 4,
        "clusters": 8,
        "head_hidden": 16,
        "bottleneck": 8,
    },
    "pretrain": {
        "steps": 6,
        "batch": 2,
        "image_px": 64,
        "local_px": 32,
        "local_count": 2,
        "warmup_steps": 2,
        "points": 32,
        "workers": 0,
        "log_every": 1,
        "device": "cpu",
    },
    "finetune": {"steps": 3, "warmup_steps": 1},
    "encoder": {
        "width": 32,
        "depth": 2,
        "heads": 2,
        "photo_px": 32,
        "global_px": 32,
        "local_px": 16,
        "local_count": 2,
        "steps": 6,
        "batch": 4,
        "prototypes": 16,
        "head_hidden": 16,
        "bottleneck": 8,
        "warmup_steps": 2,
        "freeze_head_steps": 2,
        "log_every": 1,
        "device": "cpu",
    },
}


def tiny_params(**changes: dict[str, Any]) -> Params:
    """The default parameters at test size; `changes` by section on top."""
    raw = load_params("params.yaml").model_dump(mode="json", by_alias=True)
    for sections in (SIZES, changes):
        for section, values in sections.items():
            raw[section].update(values)
    return parse_params(raw)


def write_params(params: Params, path: Path) -> Path:
    path.write_text(yaml.safe_dump(params.model_dump(mode="json", by_alias=True)))
    return path


def brief_concepts(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Those parameters with weights of `acseg` that are nowhere, and are trained in two steps."""
    acg = {"steps": 2, "batch": 2, "image_px": 32, "heads": 2, "ffn": 16, "workers": 0, "device": "cpu"}
    acseg = raw["pool"]["acseg"] | {"weights": str(folder / "nowhere.safetensors")}
    return raw | {"acg": raw["acg"] | acg, "pool": raw["pool"] | {"acseg": acseg}}


def tiny_shards(folder: Path, count: int = 6) -> Manifest:
    """Shards of a few photos of coloured blocks."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(blocks).save(photos / f"{index}.jpg", quality=95)
    listed = list_set(SetParams(root=str(photos), sources=[Source(kind="photos", path=".")]), None)
    write_set(listed, str(folder / "shards"), samples_per_shard=4, max_broken=0.0, max_pixels=10**6, workers=1)
    return load_manifest(str(folder / "shards"))


def tiny_encoder(folder: Path, patch_px: int = 8) -> Path:
    torch.manual_seed(0)
    save_folder(own_encoder(width=32, depth=2, heads=2, patch_px=patch_px, image_px=8 * patch_px), folder, notes={})
    return folder
