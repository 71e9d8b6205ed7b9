"""A small untrained model as the step register writes it, photos to try it on, and the command."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from oapseg import storage
from oapseg.checkpoint.export import completed, read_files, save_model, write_files
from oapseg.checkpoint.model import look_of
from oapseg.cli import main
from oapseg.encode.encoder import own_encoder
from oapseg.model.segmenter import Segmenter
from oapseg.params import default_params_path, load_params

CLUSTERS = 5
SIZES = {"a.jpg": (60, 90), "b.png": (100, 40), "more/c.jpg": (30, 50), "d.jpg": (48, 48), "e.jpg": (64, 100)}


def small_model(folder: Path, seed: int = 0, *, windows: int = 1, window_px: int = 64, **more: int) -> Path:
    """Cluster 2 is called sky; `more` are sizes of section `model`."""
    torch.manual_seed(seed)
    params = load_params(default_params_path())
    sizes = {"interactions": 2, "width": 32, "clusters": CLUSTERS, "queries_instance": 8, "queries_semantic": 4} | more
    segmenter = Segmenter(
        own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64), params.model.model_copy(update=sizes)
    )
    trained = folder.with_name(f"{folder.name}-trained")
    save_model(trained, segmenter.eval(), params.model.model_copy(update=sizes), "seed: 0\n", image_px=64)
    names = json.dumps({str(cluster): "sky" if cluster == 2 else None for cluster in range(CLUSTERS)}).encode()
    sides = {"image_px": 64, "window_px": window_px, "windows": windows, "max_masks": 20}
    look = look_of(params.predict.model_copy(update=sides))
    write_files(folder, completed(read_files(trained) | {"clusters.json": names}, card="# card", look=look))
    return folder


def small_params(folder: Path, **predict: Any) -> Path:
    content: dict[str, Any] = yaml.safe_load(default_params_path().read_text())
    content["predict"] |= {"batch": 1, "device": "cpu", "precision": "fp32"} | predict
    content["evaluate"] |= {"stuff_px": 20}
    path = folder / "params.yaml"
    storage.write_text(path, yaml.safe_dump(content))
    return path


def photo_bytes(height: int, width: int, seed: int, form: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, form)
    return file.getvalue()


def write_photos(place: str) -> None:
    """Five photos of unlike sizes, one of them in a folder, and a file that is none."""
    for seed, (name, size) in enumerate(SIZES.items()):
        form = "PNG" if name.endswith(".png") else "JPEG"
        storage.write_bytes(storage.join(place, name), photo_bytes(*size, seed, form))
    storage.write_text(storage.join(place, "notes.txt"), "no photo")


def predict(*words: str | Path) -> int:
    return main(["predict", *map(str, words)])


def contents(place: str) -> dict[str, str]:
    """Hash by name of every file that there is, hidden ones too in a folder."""
    if storage.is_url(place):
        return {name: storage.sha256(storage.join(place, name)) for name in storage.list_files(place)}
    root = Path(place)
    return {path.relative_to(root).as_posix(): storage.sha256(path) for path in root.rglob("*") if path.is_file()}
