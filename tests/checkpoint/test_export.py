"""The model folder: builds the same segmenter, and refuses a changed file."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from oapseg.checkpoint.export import completed, load_model, model_hash, read_files, save_model, write_files
from oapseg.checkpoint.model import look_of
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


def test_the_hash_that_scores_name_is_of_what_decides_masks_wherever_the_folder_lies(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    """Names of clusters, the card and how it looked come after training and change no mask."""
    _save(segmenter, tmp_path / "trained")
    first = model_hash(tmp_path / "trained")
    names = ("config.json", "model.safetensors", "params.yaml")
    content = {name: hashlib.sha256((tmp_path / "trained" / name).read_bytes()).hexdigest() for name in names}
    assert first == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    files = read_files(tmp_path / "trained") | {"clusters.json": b'{"0": "sky"}'}
    look = look_of(load_params("params.yaml").predict)
    write_files(tmp_path / "registered", completed(files, card="# card", look=look))
    assert model_hash(tmp_path / "registered") == first
    for name in names[1:]:
        write_files(tmp_path / name, files | {name: files[name] + b" "})
        assert model_hash(tmp_path / name) != first


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / "config.json").write_text("{}"), r"config\.json was changed \(its sha256 is "),
        (lambda path: (path / "config.json").unlink(), r"config\.json is missing$"),
        (lambda path: (path / "sha256.json").unlink(), r"no sha256\.json$"),
        (lambda path: write_files(path, {"card.md": b""}), r"sha256\.json does not list config\.json$"),
    ],
)
def test_what_is_no_whole_model_has_no_hash(
    harm: Callable[[Path], object], said: str, segmenter: Segmenter, tmp_path: Path
) -> None:
    _save(segmenter, tmp_path)
    harm(tmp_path)
    with pytest.raises(ValueError, match=rf"^model: {tmp_path}: {said}"):
        model_hash(tmp_path)
