"""The model alone, as it is registered and used: weights, what builds it again, its parameters and hashes."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from oapseg import storage
from oapseg.checkpoint.state import damage
from oapseg.encode.encoder import Encoder
from oapseg.model.segmenter import Segmenter
from oapseg.params import ModelParams

LAYOUT = 1  # version of the folder's layout


def save_model(folder: Path, segmenter: Segmenter, params: ModelParams, params_yaml: str, *, image_px: int) -> None:
    """Write the model folder: `model.safetensors`, `config.json`, `params.yaml`, `clusters.json`, `sha256.json`."""
    encoder = segmenter.backbone.encoder
    config = {
        "layout": LAYOUT,
        "image_px": image_px,
        "model": params.model_dump(),
        "encoder": {
            "architecture": encoder.architecture,
            "mean": encoder.mean.flatten().tolist(),
            "std": encoder.std.flatten().tolist(),
        },
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in segmenter.state_dict().items()}
    clusters = {str(cluster): None for cluster in range(params.clusters)}  # names, once people give them
    (folder / "sha256.json").unlink(missing_ok=True)
    storage.write_bytes(folder / "model.safetensors", save(weights))
    storage.write_json(folder / "config.json", config)
    storage.write_text(folder / "params.yaml", params_yaml)
    storage.write_json(folder / "clusters.json", clusters)
    names = ("model.safetensors", "config.json", "params.yaml", "clusters.json")
    storage.write_json(folder / "sha256.json", {name: storage.sha256(folder / name) for name in names})


def load_model(folder: str | Path, device: torch.device | str) -> Segmenter:
    """A trained segmenter in evaluation mode. Errors: `ValueError` where the folder lacks a file or one was changed."""
    folder = Path(folder)
    problem = damage(folder)
    if problem is not None:
        raise ValueError(f"model: {problem}")
    config = storage.read_json(folder / "config.json")
    if config["layout"] != LAYOUT:
        raise ValueError(f"model: {folder} has layout {config['layout']}; this version reads layout {LAYOUT}")
    parts = config["encoder"]
    encoder = Encoder(parts["architecture"], tuple(parts["mean"]), tuple(parts["std"]))
    segmenter = Segmenter(encoder, ModelParams(**config["model"]))
    segmenter.load_state_dict(load_file(folder / "model.safetensors"))
    return segmenter.to(device).eval()
