"""Generators by name, with the networks that divide-and-conquer may ask: a trained model, and the encoder again."""

from pathlib import Path

import pytest
import torch
from train.tiny import tiny_encoder, tiny_params

from oapseg.checkpoint.export import save_model
from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_folder
from oapseg.evaluate.generators import Objects, decided_by, make_generator
from oapseg.masks import INSTANCE
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params
from oapseg.pool.divide_conquer import DivideConquer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("encoder")
    tiny_encoder(folder)
    return load_folder(folder)


@pytest.fixture
def model(tmp_path: Path, encoder: Encoder) -> str:
    """A folder of a model that has learned nothing, and sees masks everywhere."""
    params = tiny_params()
    torch.manual_seed(0)
    save_model(tmp_path / "model", Segmenter(encoder, params.model).eval(), params.model, "seed: 0\n", image_px=64)
    return str(tmp_path / "model")


def with_networks(divider: str | None, *, encode: bool) -> Params:
    params = tiny_params()
    changed = params.pool.divide_conquer.model_copy(
        update={"divider": divider, "encode": encode, "confidence": 0.0, "crop_px": 32, "thresholds": [0.5, 0.2]}
    )
    return params.model_copy(update={"pool": params.pool.model_copy(update={"divide_conquer": changed})})


def test_a_trained_model_divides_and_the_encoder_sees_its_objects_anew(encoder: Encoder, model: str) -> None:
    generator = make_generator("divide_conquer", with_networks(model, encode=True), encoder)
    assert isinstance(generator, DivideConquer)
    assert isinstance(generator.divider, Objects)
    photo = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    [patches] = encoder.patches([photo], 64)
    masks = generator(patches)
    [seen] = generator.divider.model([patches.image])
    objects = seen.masks[seen.kind == INSTANCE]
    objects = objects[objects.flatten(1).any(1)]
    assert len(objects) > 0
    assert torch.equal(masks.masks[masks.level == 1], objects)  # at the photo's size, as the encoder saw it
    assert masks.masks.shape[1:] == (64, 64)


def test_without_networks_objects_are_maskcuts_and_masks_lie_on_the_grid(encoder: Encoder) -> None:
    generator = make_generator("divide_conquer", with_networks(None, encode=False), encoder)
    [patches] = encoder.patches([torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8)], 64)
    assert generator(patches).masks.shape[1:] == patches.grid


def test_another_model_is_another_generator(encoder: Encoder, model: str) -> None:
    before = decided_by("divide_conquer", with_networks(model, encode=False))
    torch.manual_seed(1)
    params = tiny_params()
    save_model(Path(model), Segmenter(encoder, params.model).eval(), params.model, "seed: 0\n", image_px=64)
    after = decided_by("divide_conquer", with_networks(model, encode=False))
    assert before[0] == after[0]
    assert before != after


def test_a_model_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"pool\.divide_conquer\.divider: no file nowhere/sha256\.json"):
        decided_by("divide_conquer", with_networks("nowhere", encode=False))


def test_a_model_cannot_divide_features_without_their_photo(encoder: Encoder, model: str) -> None:
    generator = make_generator("divide_conquer", with_networks(model, encode=False), encoder)
    [patches] = encoder.patches([torch.zeros(64, 64, 3, dtype=torch.uint8)], 64)
    with pytest.raises(ValueError, match=r"pool\.divide_conquer\.divider: a model looks at photos"):
        generator(patches._replace(image=None))
