"""A CLIP names what is seen: both towers of open_clip, or a tower of timm beside given embeddings of the names."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from clips import WIDTH, save_embeddings, tiny_tower, tiny_towers
from safetensors.torch import load_file, save_file

from oapseg.evaluate.clip import load_clip, readable
from oapseg.evaluate.text import cut, nearest_names
from oapseg.params import TextParams, default_params_path, load_params

NAMED = ["cat", "dog", "wall", "sky"]


@pytest.fixture
def params() -> TextParams:
    return load_params(default_params_path()).evaluate.text


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return tiny_towers(tmp_path, monkeypatch)


@pytest.fixture
def tower(tmp_path: Path) -> dict[str, Any]:
    return tiny_tower(tmp_path, NAMED)


@pytest.fixture(params=["towers", "tower"])
def clip(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Section `text` of either make."""
    chosen: dict[str, Any] = request.getfixturevalue(request.param)
    return chosen


def test_a_view_takes_the_name_whose_embedding_is_nearest_to_what_the_tower_makes_of_it(
    tower: dict[str, Any], params: TextParams
) -> None:
    network = timm.create_model("test_vit", num_classes=WIDTH).eval()
    network.load_state_dict(load_file(tower["weights"]))
    views = [torch.randn(3, 160, 160) for _ in NAMED]
    with torch.inference_mode():
        seen = network(torch.stack(views))
    save_embeddings(Path(tower["embeddings"]), 7 * seen[[2, 0, 3, 1]], NAMED)
    loaded = load_clip(params.model_copy(update=tower), ["sky", "wall-other-merged", "cat", "dog"])
    assert nearest_names(loaded, views, batch=2).tolist() == [3, 0, 2, 1]
    assert nearest_names(loaded, [], batch=2).tolist() == []


def test_naming_stays_on_the_cpu_where_there_is_a_gpu(
    clip: dict[str, Any], params: TextParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    loaded = load_clip(params.model_copy(update=clip), NAMED)
    view = cut(loaded, torch.zeros(9, 9, 3, dtype=torch.uint8), torch.ones(9, 9, dtype=torch.bool))
    assert {each.device.type for each in (view, loaded.classes, loaded.see(view[None]))} == {"cpu"}


def test_a_region_is_cut_out_of_its_box_and_what_is_not_of_it_is_zero(clip: dict[str, Any], params: TextParams) -> None:
    loaded = load_clip(params.model_copy(update=clip), ["cat", "dog"])
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[5:30, 10:30] = True
    mask[5:15, 10:20] = False
    image = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8)
    beyond = image.clone()
    beyond[30:] = 7
    view = cut(loaded, image, mask)
    side = loaded.size[0]
    assert view.shape == (3, side, side)
    assert (view[:, : side * 3 // 8, : side // 2] == 0).all()
    assert (view[:, side // 2 :] != 0).any(0).all()
    assert torch.equal(view, cut(loaded, beyond, mask))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"weights": "nowhere.pt"}, "evaluate.text.weights: nowhere.pt: no such file"),
        ({"model": "nonsense"}, "evaluate.text.model: open_clip has no 'nonsense'"),
        ({"model": "wide"}, "no weights of wide"),
    ],
)
def test_a_clip_that_is_not_there_is_one_line(
    towers: dict[str, Any], params: TextParams, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        load_clip(params.model_copy(update=towers | changed), ["cat"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"embeddings": "nowhere.safetensors"}, "evaluate.text.embeddings: nowhere.safetensors: no such file"),
        ({"model": "ViT-B-16"}, "evaluate.text.model: timm has no 'ViT-B-16'"),
        ({"model": "test_vit2"}, "no weights of test_vit2"),
        ({"embeddings": "tower.safetensors"}, r"must be a safetensors file of `embeddings`.*KeyError: 'names'"),
        ({"embeddings": "narrow.safetensors"}, "no weights of test_vit .*size mismatch"),
        ({"embeddings": "short.safetensors"}, r"3 names and embeddings of shape \(2, 16\)"),
        ({"embeddings": "other.safetensors"}, "no embedding of cat$"),
    ],
)
def test_a_tower_or_embeddings_that_do_not_fit_are_one_line(
    tower: dict[str, Any], params: TextParams, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    for file, rows, width, names in (
        ("narrow", 1, 8, ["cat"]),
        ("short", 2, 16, ["cat", "dog", "sky"]),
        ("other", 1, 16, ["dog"]),
    ):
        save_embeddings(tmp_path / f"{file}.safetensors", torch.ones(rows, width), names)
    if (tmp_path / changed.get("embeddings", "none")).exists():
        changed = {"embeddings": str(tmp_path / changed["embeddings"])}
    with pytest.raises(ValueError, match=reason) as error:
        load_clip(params.model_copy(update=tower | changed), ["cat"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("cut.safetensors", 0.5, "SafetensorError: "),
        ("empty.safetensors", 0.0, "SafetensorError: "),
        ("cut.pt", 0.5, "RuntimeError: "),
        ("list.pt", [1], "(AttributeError|TypeError): "),
        ("number.pt", 7, "(AttributeError|TypeError): "),
        ("other.pt", {"epoch": 3}, "(AttributeError|TypeError|RuntimeError): "),
    ],
)
def test_weights_that_are_cut_short_or_no_network_are_one_line(
    clip: dict[str, Any], params: TextParams, tmp_path: Path, file: str, content: Any, reason: str
) -> None:
    if isinstance(content, float):
        (save_file if file.endswith(".safetensors") else torch.save)({"a": torch.ones(99)}, tmp_path / file)
        whole = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(whole[: int(content * len(whole))])
    else:
        torch.save(content, tmp_path / file)
    weights = str(tmp_path / file)
    with pytest.raises(ValueError, match=f"evaluate.text.weights: .*{file}: no weights of .* \\({reason}") as error:
        load_clip(params.model_copy(update=clip | {"weights": weights}), NAMED)
    assert "\n" not in str(error.value)


def test_without_open_clip_one_line_says_what_to_install(
    params: TextParams, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    (tmp_path / "weights").touch()
    with pytest.raises(ValueError, match=r"needs open_clip, `pip install open_clip_torch`; or set .*embeddings"):
        load_clip(params.model_copy(update={"weights": str(tmp_path / "weights")}), ["cat"])


@pytest.mark.parametrize(
    ("name", "words"), [("wall-other-merged", "wall"), ("person-things", "person"), ("giant_panda", "giant panda")]
)
def test_a_class_is_said_in_words(name: str, words: str) -> None:
    assert readable(name) == words
