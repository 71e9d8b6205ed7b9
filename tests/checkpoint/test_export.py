"""The model folder: builds the same segmenter, and refuses a changed file."""

import json
from pathlib import Path

import pytest
import torch

from oapseg.checkpoint.export import load_model, save_model
from oapseg.encode.encoder import own_encoder
from oapseg.model.segmenter import Segmenter
from oapseg.params import load_params


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    params = load_params("params.yaml").model.model_copy(update={"interactions": 2, "width": 32, "clusters": 5})
    return Segmenter(own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64), params).eval()


def _save(segmenter: Segmenter, folder: Path) -> None:
    params = load_params("params.yaml").model.model_copy(update={"interactions": 2, "width": 32, "clusters": 5})
    save_model(folder, segmenter, params, "seed: 0\n", image_px=64)


def test_a_model_comes_back_bit_for_bit(segmenter: Segmenter, tmp_path: Path) -> None:
    _save(segmenter, tmp_path)
    images = torch.rand(1, 3, 64, 64)
    again = load_model(tmp_path, "cpu")
    assert torch.equal(again(images)[-1].mask_logits, segmenter(images)[-1].mask_logits)
    assert json.loads((tmp_path / "clusters.json").read_text()) == {str(cluster): None for cluster in range(5)}


def test_a_changed_file_is_refused_by_its_hash(segmenter: Segmenter, tmp_path: Path) -> None:
    _save(segmenter, tmp_path)
    (tmp_path / "clusters.json").write_text("{}")
    with pytest.raises(ValueError, match=r"clusters.json was changed"):
        load_model(tmp_path, "cpu")
