"""From labelled shards to ground truth and predictions, and the step `evaluate` as a whole."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from components import evaluate, report
from oapseg.checkpoint.export import save_model
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.encode.patches import Patches
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.predict import choose_device, predict_generator, predict_model
from oapseg.masks import Masks, mask_to_rle
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, Source, default_params_path, load_params
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2


def thing(left: int, top: int) -> torch.Tensor:
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[top : top + 32, left : left + 32] = True
    return mask


def draw_coco(folder: Path, *, labelled: bool) -> None:
    """Three photos of one bright square each; the third has no label in it."""
    (folder / "val").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 60, (64, 96, 3), dtype=np.uint8)
        mask = thing(16 * number, 8 * number)
        pixels[mask.numpy()] = 250
        Image.fromarray(pixels).save(folder / "val" / f"{number}.jpg", quality=95)
        images.append({"id": 100 + number, "file_name": f"{number}.jpg", "width": 96, "height": 64})
        if number < 2:
            box = [16 * number, 8 * number, 32, 32]
            label = {"id": number, "image_id": 100 + number, "category_id": 4, "iscrowd": 0, "area": 1024}
            annotations.append(label | {"bbox": box, "segmentation": mask_to_rle(mask)})
    (folder / "annotations").mkdir()
    if labelled:
        found = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "square"}]}
        (folder / "annotations" / "instances_val.json").write_text(json.dumps(found))


def write_shards(folder: Path, out: Path, source: Source) -> Path:
    listing = list_source(source, str(folder))
    write_set([listing], out, samples_per_shard=2, max_broken=0.0, max_pixels=10**6, workers=1)
    return out


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    draw_coco(folder, labelled=True)
    return write_shards(folder, folder / "shards" / "val", Source(kind="coco", path=".", split="val"))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw_coco(folder, labelled=False)
    return write_shards(folder, folder / "shards", Source(kind="photos", path="val"))


@pytest.fixture(scope="module")
def params_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped parameters, small enough for a test."""
    raw = yaml.safe_load(default_params_path().read_text())
    small = {"interactions": 1, "width": 16, "ffn": 16, "heads": 2, "points": 2, "pixel_layers": 1, "decoder_layers": 1}
    queries = {"queries_instance": 5, "queries_semantic": 3, "clusters": 4, "head_hidden": 8, "bottleneck": 8}
    raw["model"] |= small | queries | {"stem": 16}
    raw["evaluate"] |= {
        "image_px": 64,
        "window_px": 48,
        "batch": 2,
        "device": "cpu",
        "precision": "fp32",
        "bootstrap": 10,
        "max_dets": 4,
    }
    raw["report"] = {"photos": 2}
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="module")
def params(params_path: Path) -> Params:
    return load_params(params_path)


@pytest.fixture(scope="module")
def segmenter(params: Params) -> Segmenter:
    torch.manual_seed(0)
    encoder = own_encoder(width=24, depth=2, heads=2, patch_px=8, image_px=64)
    return Segmenter(encoder, params.model).eval()


def bright(patches: list[Patches]) -> list[Masks]:
    """A generator that finds the bright square, and two masks that are worse; all scored 1."""
    found = []
    for each in patches:
        assert each.image is not None
        square = each.image.float().mean(2) > 128
        masks = torch.stack([square, ~square, square])
        kind = torch.tensor([0, 0, 1])
        found.append(Masks(masks, torch.ones(3, dtype=torch.long), kind, torch.zeros(3, 24), torch.ones(3)))
    return found


def test_ground_truth_holds_every_labelled_photo_with_its_place(shards: Path) -> None:
    truth = load_ground_truth(load_manifest(str(shards)))
    assert [(image["id"], image["index"]) for image in truth["images"]] == [(100, 0), (101, 1), (102, 2)]
    assert [each["image_id"] for each in truth["annotations"]] == [100, 101]
    assert truth["categories"][0]["name"] == "square"


def test_photos_without_labels_are_one_clear_line(unlabelled: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no instance labels to score against \(labels: none\); set shards\.sets\.val"
    ):
        load_ground_truth(load_manifest(str(unlabelled)))


def test_a_generators_masks_come_out_at_the_photos_size_in_its_order(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    photos = Photos(load_manifest(str(shards)))
    found = list(predict_generator(segmenter.backbone.encoder, bright, photos, params.evaluate))
    assert [(each["image_id"], each["kind"]) for each in found[:3]] == [
        (100, "instance"),
        (100, "instance"),
        (100, "semantic"),
    ]
    assert found[3]["bbox"] == [16, 8, 32, 32]
    assert found[0]["segmentation"]["size"] == [64, 96]


def test_at_most_the_best_masks_of_each_kind_are_kept(shards: Path, segmenter: Segmenter, params: Params) -> None:
    photos = Photos(load_manifest(str(shards)))
    few = params.evaluate.model_copy(update={"max_dets": 2})
    found = [each for each in predict_model(segmenter, photos, few) if each["image_id"] == 101]
    by_kind = {kind: [each["score"] for each in found if each["kind"] == kind] for kind in ("instance", "semantic")}
    assert all(len(scores) <= 2 and scores == sorted(scores, reverse=True) for scores in by_kind.values())
    assert found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^evaluate\.device: cuda is asked for"):
        choose_device("cuda")


@pytest.fixture
def arguments(tmp_path: Path, shards: Path, params_path: Path, segmenter: Segmenter) -> dict[str, Any]:
    params = load_params(params_path)
    save_model(tmp_path / "model", segmenter, params.model, params_path.read_text(), image_px=64)
    save_folder(segmenter.backbone.encoder, tmp_path / "encoder", notes={})
    places = {"model": str(tmp_path / "model"), "encoder": str(tmp_path / "encoder"), "shards": str(shards)}
    return {"params": params_path, "train_shards": str(shards), "out": tmp_path / "evaluate", **places}


def test_the_step_writes_scores_metrics_predictions_and_labels(arguments: dict[str, Any]) -> None:
    evaluate.main(argparse.Namespace(**arguments))
    out = arguments["out"]
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.json"))
    predictions = ["predictions/generator.json", "predictions/model.json"]
    assert files == ["ground_truth.json", "headlines.json", "metrics.json", *predictions]
    shown, metrics = (json.loads((out / name).read_text()) for name in ("headlines.json", "metrics.json"))
    assert shown["model.mask_AR4"] == metrics["model.mask_AR4"]["value"]
    assert metrics["classes.mask_AP"]["fit_on"] == "val"


def test_the_step_fits_the_mapping_on_train_where_asked(arguments: dict[str, Any], tmp_path: Path) -> None:
    raw = yaml.safe_load(Path(arguments["params"]).read_text())
    raw["evaluate"]["fit_on"] = "train"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    evaluate.main(argparse.Namespace(**(arguments | {"params": tmp_path / "params.yaml"})))
    assert (arguments["out"] / "predictions" / "model_train.json").exists()
    with pytest.raises(ValueError, match="--train-shards must name"):
        evaluate.main(argparse.Namespace(**(arguments | {"params": tmp_path / "params.yaml", "train_shards": None})))


def test_an_unknown_generator_is_one_line(params: Params) -> None:
    wrong = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"generator": "magic"})})
    with pytest.raises(ValueError, match=r"evaluate\.generator: no generator 'magic'; allowed are .*oap"):
        evaluate.choose_generator(wrong)


def test_the_report_of_an_evaluation_shows_its_photos(arguments: dict[str, Any], tmp_path: Path) -> None:
    evaluate.main(argparse.Namespace(**arguments))
    for name in ("pretrain", "finetune"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    places = {name: tmp_path / name for name in ("evaluate", "pretrain", "finetune")}
    places |= {"out": tmp_path / "report", "params": arguments["params"]}
    report.main(argparse.Namespace(shards=arguments["shards"], **places))
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<img ") == 8
    assert (tmp_path / "report" / "pretrain.csv").read_text() == "step,loss\n1,2.0\n2,1.0\n"
