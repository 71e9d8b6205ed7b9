"""The model alone, as it is registered and used: weights, what builds it again, how it looks, and hashes of all.

A model folder, layout 1 (`docs/models.md`): `model.safetensors`, `config.json`, `params.yaml`, `clusters.json`, and
`sha256.json` over them. A registered one has `card.md` too, and in `config.json` how the model looked at photos when it
was measured. Every file is data: nothing in it is run when it is read.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from oapseg import storage
from oapseg.checkpoint.state import changed, listed_hashes, verified
from oapseg.encode.encoder import Encoder
from oapseg.model.segmenter import Look, Segmenter
from oapseg.params import ModelParams

LAYOUT = 1  # version of the folder's layout: another one where a reader of this one would go wrong
HASHES = "sha256.json"
WEIGHTS, CONFIG, PARAMS, CLUSTERS, CARD = "model.safetensors", "config.json", "params.yaml", "clusters.json", "card.md"
LOOK = "look"  # key of config.json: how the model looked at photos when it was measured
NEEDED = (WEIGHTS, CONFIG, PARAMS, CLUSTERS)

Files = dict[str, bytes]  # content by name


def save_model(folder: Path, segmenter: Segmenter, params: ModelParams, params_yaml: str, *, image_px: int) -> None:
    """Write the model folder of a training that has ended."""
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
    files = {WEIGHTS: save(weights), CONFIG: json_bytes(config), PARAMS: params_yaml.encode()}
    clusters = {str(cluster): None for cluster in range(params.clusters)}  # names, once people give them
    write_files(folder, files | {CLUSTERS: _names_kept(folder, files[WEIGHTS]) or json_bytes(clusters)})


def _names_kept(folder: Path, weights: bytes) -> bytes | None:
    """The names of the clusters where a finished training writes the very model again that has them."""
    there = folder / WEIGHTS, folder / CLUSTERS
    return there[1].read_bytes() if all(map(Path.exists, there)) and there[0].read_bytes() == weights else None


def write_files(folder: Path, files: Files) -> None:
    """A sealed folder: the hashes go before anything changes and come last, so a half-written one is none."""
    (folder / HASHES).unlink(missing_ok=True)
    for name, content in files.items():
        storage.write_bytes(folder / name, content)
    storage.write_json(folder / HASHES, {name: storage.sha256(folder / name) for name in files})


def read_files(location: str | Path) -> Files:
    """Every file of a model folder or of one in S3, each read once and checked by its hash.

    Errors: `ValueError` where it is no model folder, or names the file that is missing or was changed.
    """
    try:
        files = verified(location)
    except ValueError as error:
        raise ValueError(f"model: {error}") from None
    if lacking := [name for name in NEEDED if name not in files]:
        raise ValueError(f"model: {location}: {HASHES} does not list {', '.join(lacking)}")
    layout = _json(files[CONFIG], location).get("layout")
    if layout != LAYOUT:
        raise ValueError(f"model: {location} has layout {layout}; this version reads layout {LAYOUT}")
    return files


def model_hash(location: str | Path) -> str:
    """One hash of all that decides a model's masks; scores call it their `checkpoint`.

    Neither the folder's place nor what comes after training has a part in it: the names that people give clusters, and
    what `completed` adds. The hashes of files are those of `sha256.json`, so no weights are read.

    Errors: `ValueError` where it is no model folder, or `config.json` was changed.
    """
    try:
        hashes = listed_hashes(location)
        if CONFIG not in hashes:
            raise ValueError(f"{location}: {HASHES} does not list {CONFIG}")
        content = storage.read_bytes(storage.join(location, CONFIG))
    except FileNotFoundError:
        raise ValueError(f"model: {location}: {CONFIG} is missing") from None
    except ValueError as error:
        raise ValueError(f"model: {error}") from None
    if (found := hashlib.sha256(content).hexdigest()) != hashes[CONFIG]:
        raise ValueError(f"model: {changed(location, CONFIG, found, hashes[CONFIG])}")
    trained = json_bytes({key: value for key, value in _json(content, location).items() if key != LOOK})
    decisive = {name: digest for name, digest in hashes.items() if name not in (CLUSTERS, CARD)}
    decisive[CONFIG] = hashlib.sha256(trained).hexdigest()
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def completed(files: Files, *, card: str, look: Look) -> Files:
    """The files of a trained model with what is known once it is measured: its card and how it looked."""
    config = json.loads(files[CONFIG]) | {LOOK: asdict(look)}
    return files | {CONFIG: json_bytes(config), CARD: card.encode()}


def load_model(folder: str | Path, device: torch.device | str) -> Segmenter:
    """A trained segmenter in evaluation mode. Errors: as `read_files`, and where weights and configuration differ."""
    return build(read_files(folder), device, folder)


def build(files: Files, device: torch.device | str, location: str | Path) -> Segmenter:
    """The segmenter of a model's files; `location` is where they come from, for errors.

    Errors: `ValueError` where the weights are not of the model that `config.json` describes.
    """
    config = _json(files[CONFIG], location)
    try:
        parts = config["encoder"]
        encoder = Encoder(parts["architecture"], tuple(parts["mean"]), tuple(parts["std"]))
        segmenter = Segmenter(encoder, ModelParams(**config["model"]))
        segmenter.load_state_dict(load(files[WEIGHTS]))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(
            f"model: {location}: {WEIGHTS} does not fit {CONFIG} ({type(error).__name__}: {line})"
        ) from None
    return segmenter.to(device).eval()


def json_bytes(value: Any) -> bytes:
    """As `storage.write_json` writes it."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _json(content: bytes, location: str | Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise ValueError(f"model: {location}/{CONFIG}: not JSON ({error})") from None
    return values
