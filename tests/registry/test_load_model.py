"""`oapseg.load`: a model from a folder or a registry, its files checked, and photos of any kind to masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import oapseg
from oapseg import storage
from oapseg.checkpoint.export import HASHES, completed, read_files, save_model, write_files
from oapseg.checkpoint.model import Model, clusters, look_of
from oapseg.encode.encoder import own_encoder
from oapseg.model.segmenter import Segmenter
from oapseg.params import load_params
from oapseg.refine.levels import spans
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.register import register
from oapseg.registry.server import DEPRECATED_IN_MLFLOW, registry

SIDES = {"image_px": 64, "window_px": 64, "windows": 1, "max_masks": 20}
LOOK = look_of(load_params("params.yaml").predict.model_copy(update=SIDES))
SIZE = (48, 72)  # H, W of a photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the step register writes it."""
    trained, made = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    params = load_params("params.yaml").model.model_copy(
        update={"interactions": 2, "width": 32, "clusters": 5, "queries_instance": 8, "queries_semantic": 4}
    )
    encoder = own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64)
    save_model(trained, Segmenter(encoder, params).eval(), params, "seed: 0\n", image_px=64)
    names = json.dumps({str(cluster): "sky" if cluster == 2 else None for cluster in range(5)}).encode()
    write_files(made, completed(read_files(trained) | {"clusters.json": names}, card="# card", look=LOOK))
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return oapseg.load(folder, device="cpu")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def test_a_model_says_what_it_is(model: Model) -> None:
    assert (model.look, model.card, model.params_yaml) == (LOOK, "# card", "seed: 0\n")
    assert model.names == {0: None, 1: None, 2: "sky", 3: None, 4: None}


def test_masks_are_at_the_photos_own_size_best_first_with_their_clusters(model: Model, photo: np.ndarray) -> None:
    wide = np.concatenate([photo, photo], 1)
    first, second = model([photo, wide])
    assert (first.masks.shape[1:], second.masks.shape[1:]) == (SIZE, wide.shape[:2])
    assert len(first) > 0
    assert first.scores.tolist() == sorted(first.scores.tolist(), reverse=True)
    assert set(clusters(first).tolist()) <= set(model.names)
    assert set(first.kind.tolist()) <= {0, 1}


def test_a_photo_of_any_kind_gives_the_same_masks(model: Model, photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    tensor = torch.from_numpy(photo)
    kinds = [photo, Image.fromarray(photo), path, str(path), tensor, tensor.permute(2, 0, 1)]
    first, *others = model(kinds, batch=4)
    for other in others:
        assert torch.equal(first.masks, other.masks)
        assert torch.equal(first.scores, other.scores)


def test_scores_below_the_least_are_left_out(model: Model, photo: np.ndarray) -> None:
    (every,) = model([photo])
    middle = float(every.scores[len(every) // 2])
    (some,) = model([photo], min_score=middle)
    assert len(some) == int((every.scores >= middle).sum())
    (none,) = model([photo], min_score=1.0)
    assert none.masks.shape == (0, *SIZE)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_level_gives_the_masks_of_a_look_at_that_level(level: float, model: Model, photo: np.ndarray) -> None:
    (every,), (some,) = model([photo]), model([photo], level=level)
    (seen,) = replace(model, look=replace(model.look, level=level)).predict([photo])
    assert 0 < len(some) < len(every)
    assert torch.equal(some.masks, torch.stack([seen.mask(index) for index in range(len(seen.scores))]))
    assert torch.equal(some.scores, seen.scores)
    measured_there = replace(model, look=replace(model.look, level=level))
    (again,), (other,) = measured_there([photo]), measured_there([photo], level=1.0 - level)
    assert torch.equal(again.masks, some.masks)
    assert torch.equal(other.masks, model([photo], level=1.0 - level)[0].masks)


def test_the_level_of_a_mask_is_its_generation_whatever_is_asked_for(model: Model, photo: np.ndarray) -> None:
    (every,), (seen,) = model([photo]), model.predict([photo])
    found = spans(seen.soft > seen.threshold, torch.zeros_like(seen.kind), seen.kind, seen.scores)
    assert torch.equal(every.level, found.generation)
    assert every.level.unique().tolist() == list(range(int(every.level.max()) + 1))
    assert every.level.max() > 1
    (wholes,) = model([photo], level=1.0)
    assert torch.equal(wholes.level, every.level[found.at(1.0)])
    assert wholes.level.max() > 1


@pytest.mark.parametrize("name", ["level", "min_score"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_out_of_range_is_named(name: str, value: float, model: Model, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: must be from 0 to 1, is {value:g}$"):
        model([photo], **{name: value})


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), r"images\[0\]: must be uint8 of shape H W 3"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"images\[0\]: must be uint8 .* is torch.uint8 of \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"images\[0\]: "),
        ("params.yaml", "params.yaml: not a photo"),
    ],
)
def test_what_is_no_photo_is_named(image: object, said: str, model: Model) -> None:
    with pytest.raises(ValueError, match=said):
        model([image])


def test_a_photo_alone_is_no_list_of_photos(model: Model) -> None:
    with pytest.raises(ValueError, match="give a list of photos"):
        model("photo.jpg")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "params.yaml", "clusters.json", "card.md"])
def test_a_changed_file_is_refused_by_its_name_and_hash(name: str, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    found, expected = storage.sha256(tmp_path / name), storage.sha256(folder / name)
    with pytest.raises(ValueError, match=f"{name} was changed \\(its sha256 is {found} and should be {expected}\\)"):
        oapseg.load(tmp_path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / HASHES).unlink(), "no sha256.json"),
        (lambda path: (path / "config.json").unlink(), "config.json is missing"),
        (lambda path: write_files(path, {"card.md": b""}), "does not list model.safetensors, config.json"),
        (lambda path: (path / HASHES).write_text('{"../x": "0"}'), "is no list of this folder's files"),
    ],
)
def test_a_folder_that_is_no_model_is_told(harm: object, said: str, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    harm(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=said):
        oapseg.load(tmp_path)


def test_another_layout_and_weights_that_do_not_fit_are_told(folder: Path, tmp_path: Path) -> None:
    files = read_files(folder)
    config = json.loads(files["config.json"])
    write_files(tmp_path, files | {"config.json": json.dumps(config | {"layout": 7}).encode()})
    with pytest.raises(ValueError, match=r"has layout 7; this version reads layout 1"):
        oapseg.load(tmp_path)
    config["model"]["clusters"] = 6
    write_files(tmp_path, files | {"config.json": json.dumps(config).encode()})
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit config\.json \(RuntimeError: "):
        oapseg.load(tmp_path)


def test_a_look_of_a_later_version_is_told_and_one_of_an_earlier_is_completed(folder: Path, tmp_path: Path) -> None:
    files = read_files(folder)
    config = json.loads(files["config.json"])
    write_files(tmp_path, files | {"config.json": json.dumps(config | {"look": {"image_px": 64}}).encode()})
    assert oapseg.load(tmp_path, device="cpu").look.image_px == 64
    write_files(tmp_path, files | {"config.json": json.dumps(config | {"look": {"squint": True}}).encode()})
    with pytest.raises(ValueError, match=r"look: this version does not know it \(.*squint"):
        oapseg.load(tmp_path)


def test_nothing_in_a_model_is_run_when_it_is_read(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".yaml", ".md"}


@pytest.mark.slow
@pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")
def test_a_registered_model_loads_by_alias_and_number_and_not_once_it_was_tampered_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tags = {SEAL_TAG: storage.sha256(folder / HASHES)}
    register("shapes", uri, artifacts={"model": folder}, content="1", card="", metrics={}, tags=tags)
    with registry(uri) as client:
        client.set_registered_model_alias("shapes", "champion", "1")
    for location in ("models:/shapes@champion", "models:/shapes/1", "models:/shapes/latest"):
        assert oapseg.load(location, device="cpu").look == LOOK
    with pytest.raises(ValueError, match=r"no version emperor; the registry has 1, @champion"):
        oapseg.load("models:/shapes@emperor")
    with pytest.raises(ValueError, match=r"^models:/shapes: must be models:/NAME@ALIAS"):
        oapseg.load("models:/shapes")
    (kept,) = (tmp_path / "mlartifacts").rglob("model.safetensors")
    kept.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"model\.safetensors was changed"):
        oapseg.load("models:/shapes@champion")
    files = {
        name: (kept.parent / name).read_bytes()
        for name in (path.name for path in kept.parent.iterdir())
        if name != HASHES
    }
    write_files(kept.parent, files)
    with pytest.raises(
        ValueError, match=r"^model: models:/shapes/1: sha256\.json was changed .* registered is [0-9a-f]{64}"
    ):
        oapseg.load("models:/shapes@champion")
