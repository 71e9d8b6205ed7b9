"""CLIPs of test size with random weights, of either make, as section `evaluate.text` names them."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

WIDTH = 16  # of the space of names


def tiny_towers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Both towers of open_clip, `tiny`, beside an architecture `wide` that its weights do not fit."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed (pip install open_clip_torch)")
    tower = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    words = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    known = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, "tiny", {"embed_dim": WIDTH, "vision_cfg": tower, "text_cfg": words})
    monkeypatch.setitem(known, "wide", {"embed_dim": WIDTH, "vision_cfg": tower, "text_cfg": words | {"width": 64}})
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny").state_dict(), folder / "tiny.pt")
    return {"model": "tiny", "weights": str(folder / "tiny.pt"), "batch": 3}


def tiny_tower(folder: Path, names: list[str]) -> dict[str, Any]:
    """An image tower of timm, and embeddings of some names."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=WIDTH).state_dict(), folder / "tower.safetensors")
    save_embeddings(folder / "names.safetensors", torch.randn(len(names), WIDTH), names)
    files = {"weights": str(folder / "tower.safetensors"), "embeddings": str(folder / "names.safetensors")}
    return {"model": "test_vit", "batch": 3, **files}


def save_embeddings(file: Path, embeddings: torch.Tensor, names: list[str]) -> None:
    save_file({"embeddings": embeddings}, file, {"names": json.dumps(names)})
