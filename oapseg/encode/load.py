"""Where an encoder's weights come from, and the folder that holds them once they are found."""

import logging
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from oapseg import storage
from oapseg.encode.encoder import Encoder
from oapseg.params import EncodeParams

STARTER = Path(__file__).with_name("starter")


def load_encoder(params: EncodeParams) -> Encoder:
    """The encoder that section `encode` names, in evaluation mode, on the CPU.

    Errors: `ValueError` of one line, with what to set, where the weights cannot be had.
    """
    if params.name == "starter":
        return load_folder(STARTER)
    if params.name == "own":
        return load_folder(str(params.weights))
    return _load_timm(params.name, params.weights)


def load_folder(folder: str | Path) -> Encoder:
    """An encoder from its folder: `config.json` and `model.safetensors` (any float type; computed in float32)."""
    for name in ("config.json", "model.safetensors"):
        if not storage.exists(storage.join(folder, name)):
            raise ValueError(f"encode.weights: {folder} has no {name}; it must be a folder that the step encoder wrote")
    config = storage.read_json(storage.join(folder, "config.json"))
    try:
        encoder = Encoder(config["architecture"], tuple(config["mean"]), tuple(config["std"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"encode.weights: {folder}/config.json is not of an encoder ({_one_line(error)})") from None
    try:
        weights = load(storage.read_bytes(storage.join(folder, "model.safetensors")))
        encoder.vit.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"encode.weights: {folder}/model.safetensors does not fit ({_one_line(error)})") from None
    return encoder.eval()


def save_folder(encoder: Encoder, folder: Path, *, dtype: torch.dtype = torch.float32, notes: dict[str, Any]) -> None:
    """Write an encoder's folder; `notes` (recipe, licence) go into `config.json` and are not needed to load."""
    weights = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in encoder.vit.state_dict().items()}
    config = {
        "architecture": encoder.architecture,
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        "notes": notes,
    }
    storage.write_bytes(folder / "model.safetensors", save(weights))
    storage.write_json(folder / "config.json", config)


def resolve(params: EncodeParams, folder: Path) -> Encoder:
    """Put the encoder that section `encode` names into `folder`, so that all later steps need no network."""
    encoder = load_encoder(params)
    if params.name in ("starter", "own"):
        origin: str | Path = STARTER if params.name == "starter" else str(params.weights)
        for name in ("config.json", "model.safetensors"):
            storage.write_bytes(folder / name, storage.read_bytes(storage.join(origin, name)))
    else:
        save_folder(encoder, folder, notes={"origin": params.name, "weights": params.weights})
    return encoder


def _load_timm(name: str, weights: str | None) -> Encoder:
    """A ViT of timm, its weights from a local file or from timm's hub."""
    if not timm.is_model(name) or not timm.is_model_pretrained(name):
        close = ", ".join(timm.list_models(f"*{name.split('.')[0]}*")[:5]) or "see timm.list_models('vit_*')"
        raise ValueError(
            f"encode.name: timm knows no pretrained {name!r}; allowed are starter, own, or a timm ViT ({close})"
        )
    if weights is not None and not Path(weights).is_file():
        raise ValueError(
            f"encode.weights: no file {weights}; set it to a weights file of {name}, or to null for the hub"
        )
    source = timm.models.get_pretrained_cfg(name)
    try:
        encoder = Encoder({"timm": name}, tuple(source.mean), tuple(source.std))
    except TypeError:  # of a family that is built for one size of photos
        raise ValueError(f"encode.name: {name} takes no photos of any size; allowed is a plain ViT of timm") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; what comes of them is said below
    overlay = None if weights is None else {"file": weights, "hf_hub_id": None, "url": ""}
    try:
        trained = timm.create_model(
            name, pretrained=True, num_classes=0, dynamic_img_size=True, pretrained_cfg_overlay=overlay
        )
    except Exception as error:  # noqa: BLE001  # the hub's client raises a dozen kinds, its HTTP library's among them
        where = f"the file {weights}" if weights else "timm's hub"
        raise ValueError(
            f"encode.weights: weights of {name} cannot be had from {where} ({_one_line(error)}); "
            "set encode.weights to a local weights file, or encode.name to starter"
        ) from None
    encoder.vit.load_state_dict(trained.state_dict())
    return encoder.eval()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
