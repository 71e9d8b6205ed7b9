"""The number of things that labels say, on its way from shards to a generator that asks for it."""

from pathlib import Path

import pytest
import torch
import yaml
from evaluate.squares import labelled_shards, small_params, small_segmenter, unlabelled_shards

from oapseg.cli import main
from oapseg.encode.encoder import Encoder
from oapseg.encode.load import save_folder
from oapseg.evaluate.generators import make_generator
from oapseg.evaluate.pooling import Job, fingerprint, pool_set
from oapseg.evaluate.predict import generator_predictor, num_things, sample_patches
from oapseg.evaluate.predictions import Parts, Predictions
from oapseg.evaluate.probe import probe
from oapseg.params import Params, load_params
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.read import Photos, Sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2

NONE_TOLD = "pool.deep_spectral.instances is labels, and the photo comes without"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three photos: two with a thing, one with none."""
    return load_manifest(str(labelled_shards(tmp_path_factory.mktemp("coco"))))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load_manifest(str(unlabelled_shards(tmp_path_factory.mktemp("photos"))))


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """Deep spectral with as many instances as a photo has things."""
    params = load_params(small_params(tmp_path_factory.mktemp("params")))
    deep = params.pool.deep_spectral.model_copy(update={"instances": "labels", "median": 1})
    predict = params.predict.model_copy(update={"generator": "deep_spectral"})
    pool = params.pool.model_copy(update={"deep_spectral": deep})
    return params.model_copy(update={"pool": pool, "predict": predict})


@pytest.fixture(scope="module")
def encoder(params: Params) -> Encoder:
    return small_segmenter(params).backbone.encoder


def pooled(manifest: Manifest, params: Params, encoder: Encoder, out: Path) -> Job:
    """Masks as the step pool and compare make them."""
    parts = Parts(str(out), manifest, fingerprint("deep_spectral", params, encoder, manifest))
    job = Job("deep_spectral", make_generator("deep_spectral", params, encoder), parts, 0)
    pool_set(manifest, encoder, [job], params)
    return job


def test_things_of_a_photo_are_those_of_its_labels_without_crowds() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    labels = [{"iscrowd": 0}, {"iscrowd": 1}, {}]
    assert num_things(Sample("a", image, {"instances": labels})) == 2
    assert num_things(Sample("a", image, {"instances": []})) == 0
    assert num_things(Sample("a", image, {"name": "a.jpg"})) is None


def test_patches_of_labelled_photos_say_how_many_things_there_are(
    labelled: Manifest, unlabelled: Manifest, params: Params, encoder: Encoder
) -> None:
    def told(manifest: Manifest) -> list[int | None]:
        return [each.num_things for each in sample_patches(encoder, list(Photos(manifest)), params.predict)]

    assert told(labelled) == [1, 1, 0]
    assert told(unlabelled) == [None, None, None]


def test_predict_and_pool_make_as_many_masks_as_the_labels_have_things(
    labelled: Manifest, params: Params, encoder: Encoder, tmp_path: Path
) -> None:
    generator = make_generator("deep_spectral", params, encoder)
    predict = generator_predictor(encoder, generator.batch, params.predict)
    assert [len(each.results) for each in predict(list(Photos(labelled)))] == [1, 1, 0]
    job = pooled(labelled, params, encoder, tmp_path)
    assert (job.failed, job.given_up) == ({}, None)
    made = Predictions(str(tmp_path))
    assert {image: len(found) for part in (0, 1) for image, found in made.part(part).items()} == {100: 1, 101: 1}


def test_a_photo_without_labels_is_one_line_in_predict_and_in_pool(
    unlabelled: Manifest, params: Params, encoder: Encoder, tmp_path: Path
) -> None:
    generator = make_generator("deep_spectral", params, encoder)
    with pytest.raises(ValueError, match=f"^image 0 of the batch: {NONE_TOLD}; allowed are eigengap and a number$"):
        generator_predictor(encoder, generator.batch, params.predict)(list(Photos(unlabelled)))
    given_up = pooled(unlabelled, params, encoder, tmp_path).given_up
    assert given_up is not None
    assert NONE_TOLD in given_up


def test_a_folder_of_photos_is_one_line_where_labels_are_asked_for(
    encoder: Encoder, unlabelled: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(encoder, tmp_path / "encoder", notes={})
    path = small_params(tmp_path)
    raw = yaml.safe_load(path.read_text())
    raw["encode"] = {"name": "own", "weights": str(tmp_path / "encoder")}
    raw["predict"]["generator"], raw["pool"]["deep_spectral"]["instances"] = "deep_spectral", "labels"
    path.write_text(yaml.safe_dump(raw))
    photos = Path(unlabelled.location).parents[1] / "val"
    assert main(["masks", str(photos), "--out", str(tmp_path / "out"), "--params", str(path)]) == 2
    assert NONE_TOLD in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "masks.json").exists()


def test_memory_is_measured_with_the_number_of_things(labelled: Manifest, params: Params, encoder: Encoder) -> None:
    photos = sample_patches(encoder, list(Photos(labelled))[:1], params.predict)
    found = probe(make_generator("deep_spectral", params, encoder), photos)
    assert found.failure is None
    assert found.peak_bytes is not None
