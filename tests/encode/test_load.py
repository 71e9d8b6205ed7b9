"""Where weights come from, and what is said when they cannot be had."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import STARTER, load_encoder, load_folder, resolve, save_folder
from oapseg.params import EncodeParams


def test_an_encoder_comes_back_from_its_folder_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64).eval()
    save_folder(encoder, tmp_path, notes={})
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(load_folder(tmp_path)(images), encoder(images))


def test_the_shipped_starter_fits_its_limits_and_gives_patches() -> None:
    assert (STARTER / "model.safetensors").stat().st_size <= 12e6
    assert "CC BY 4.0" in (STARTER / "card.md").read_text()
    encoder = load_encoder(EncodeParams(name="starter", weights=None))
    photo = torch.randint(0, 256, (100, 150, 3), dtype=torch.uint8)
    assert encoder.patches([photo], 224)[0].grid == (224 // encoder.patch_px, 224 // encoder.patch_px)


def test_timm_weights_come_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    encoder = load_encoder(EncodeParams(name="vit_tiny_patch16_224", weights=str(tmp_path / "weights.safetensors")))
    assert torch.equal(encoder.vit.blocks[3].attn.qkv.weight, trained.blocks[3].attn.qkv.weight)
    resolve(EncodeParams(name="own", weights=str(_saved(encoder, tmp_path / "own"))), tmp_path / "resolved")
    again = load_folder(tmp_path / "resolved")
    assert torch.equal(again.vit.blocks[3].attn.qkv.weight, trained.blocks[3].attn.qkv.weight)


def _saved(encoder: object, folder: Path) -> Path:
    save_folder(encoder, folder, notes={})  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("vit_base_patch8_224.dimo", None, "timm knows no pretrained"),
        ("vit_small_patch16_224.dino", "nowhere.safetensors", "no file nowhere.safetensors"),
        ("own", "nowhere", "nowhere has no config.json"),
    ],
)
def test_missing_weights_are_one_line_that_says_what_to_set(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(EncodeParams(name=name, weights=weights))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("encode.")


def test_no_network_is_one_line_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the hub's own switch, read at import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"set encode.weights to a local weights file, or encode.name to starter"):
        load_encoder(EncodeParams(name="vit_tiny_patch16_224", weights=None))


def test_a_damaged_weights_file_is_refused(tmp_path: Path) -> None:
    save_folder(own_encoder(width=32, depth=1, heads=2, patch_px=8, image_px=64), tmp_path, notes={})
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match=r"model.safetensors does not fit"):
        load_folder(tmp_path)


def test_a_folder_of_another_make_is_refused(tmp_path: Path) -> None:
    save_folder(own_encoder(width=32, depth=1, heads=2, patch_px=8, image_px=64), tmp_path, notes={})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json is not of an encoder \(KeyError: 'architecture'\)"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "swin_tiny_patch4_window7_224.ms_in1k"])
def test_a_network_that_is_no_plain_vit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"allowed is a plain ViT of timm"):
        load_encoder(EncodeParams(name=name, weights=None))
