"""Every public benchmark, on a tiny copy of its layout: a perfect prediction scores all, and the step runs through."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import components.__main__
from oapseg.checkpoint.export import save_model
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.evaluate.benchmark import public_benchmark
from oapseg.evaluate.look import look
from oapseg.evaluate.predictions import Maker, PhotoResults, Predictions, write_predictions
from oapseg.evaluate.scores import score_maker
from oapseg.masks import mask_to_rle, rle_to_mask
from oapseg.model.segmenter import Segmenter
from oapseg.params import default_params_path, load_params, parse_params
from oapseg.shards.read import Sample
from oapseg.shards.sources import list_benchmark
from oapseg.shards.write import write_set

sys.path.append(str(Path(__file__).parents[1] / "shards"))
from layouts import BUILDERS

PARAMS = load_params(default_params_path())
RULES = PARAMS.evaluate.model_copy(update={"bootstrap": 5, "stuff_px": 0})
WHOLE = ("AP", "AP50", "accuracy", "mIoU", "PQ", "SQ", "RQ", "PQ_things", "PQ_stuff", "max_F_beta", "IoU", "CorLoc")


def box_mask(bbox: list[float], size: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    left, top, width, height = (round(side) for side in bbox)
    mask[top : top + height, left : left + width] = True
    return mask


def perfect(sample: Sample, tasks: list[str]) -> PhotoResults:
    """What is annotated, as if it had been predicted, by the labels that the benchmark's tasks are scored against."""
    labels, size = sample.labels, (sample.labels["height"], sample.labels["width"])

    def result(category: int, mask: torch.Tensor, kind: str) -> dict[str, Any]:
        rows, columns = (np.flatnonzero(mask.numpy().any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        values = {"image_id": labels["image_id"], "category_id": category, "kind": kind, "score": 0.9}
        return values | {"segmentation": mask_to_rle(mask), "bbox": [int(side) for side in box]}

    things = labels.get("instances", []) if {"instance", "saliency"} & set(tasks) else labels.get("panoptic", [])
    found = []
    for each in things:
        if not each["iscrowd"] and each.get("isthing", 1):
            mask = rle_to_mask(each["segmentation"]) if "segmentation" in each else box_mask(each["bbox"], size)
            found.append(result(each["category_id"], mask, "instance"))
    regions: dict[int, torch.Tensor] = {}
    for each in labels.get("semantic", labels.get("panoptic", [])):
        mask = rle_to_mask(each["segmentation"])
        regions[each["category_id"]] = regions.get(each["category_id"], torch.zeros(size, dtype=torch.bool)) | mask
    return PhotoResults(found + [result(category, mask, "region") for category, mask in regions.items() if mask.any()])


@pytest.mark.parametrize("name", PARAMS.benchmarks)
def test_a_perfect_prediction_scores_all_on_every_benchmark(name: str, tmp_path: Path) -> None:
    chosen = PARAMS.benchmarks[name]
    BUILDERS[Path(chosen.root).name](tmp_path / "root")
    listings = list_benchmark(name, chosen, str(tmp_path / "root"))
    manifest = write_set(
        listings, str(tmp_path / "shards"), samples_per_shard=2, max_broken=0.0, max_pixels=10**6, workers=1
    )

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        return [perfect(sample, chosen.tasks) for sample in samples]

    write_predictions(str(tmp_path / "made"), manifest, predict, batch=2, fingerprint="", what=name)
    benchmark = public_benchmark(name, manifest, chosen)
    seen = look(manifest, Predictions(str(tmp_path / "made")), benchmark, RULES)
    scores = score_maker(Maker("", ""), seen, seen, "val", benchmark, RULES, seed=0).measured
    kinds = {"instance": chosen.measures, "semantic": ["semantic"], "panoptic": ["panoptic"], "saliency": ["saliency"]}
    for task in chosen.tasks:
        for kind in kinds[task]:
            whole = {each: scores[f"{kind}_{each}"].value for each in WHOLE if f"{kind}_{each}" in scores}
            known = {each: value for each, value in whole.items() if not np.isnan(value)}
            assert known
            assert known == pytest.approx(dict.fromkeys(known, 1.0), abs=1e-12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and an encoder of test size, and parameters."""
    folder = tmp_path_factory.mktemp("trained")
    raw = PARAMS.model_dump(mode="json", by_alias=True)
    raw["model"] |= {"interactions": 1, "width": 16, "ffn": 16, "heads": 2, "pixel_layers": 1, "decoder_layers": 1}
    raw["predict"] |= {"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu", "precision": "fp32"}
    raw["evaluate"] |= {"bootstrap": 5, "feature_clusters": 3}
    (folder / "params.yaml").write_text(json.dumps(raw))
    params = load_params(folder / "params.yaml")
    torch.manual_seed(0)
    segmenter = Segmenter(own_encoder(width=24, depth=2, heads=2, patch_px=8, image_px=64), params.model).eval()
    save_model(folder / "model", segmenter, params.model, "seed: 0\n", image_px=64)
    save_folder(segmenter.backbone.encoder, folder / "encoder", notes={})
    return folder


def run(name: str, trained: Path, root: Path, out: Path, params: str = "params.yaml") -> int:
    folders = ["--encoder", trained / "encoder", "--model", "model", trained / "model", "--out", out, "--root", root]
    words = ["benchmark", name, *folders, "--params", trained / params]
    return components.__main__.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("voc2007", "model.box_AP50"),
        ("cityscapes_panoptic", "model.panoptic_PQ"),
        ("coco_stuff27", "model.semantic_mIoU"),
        ("duts_te", "model.saliency_IoU"),
    ],
)
def test_the_step_goes_from_the_official_layout_to_scores(name: str, score: str, trained: Path, tmp_path: Path) -> None:
    BUILDERS[Path(PARAMS.benchmarks[name].root).name](tmp_path / "root")
    assert run(name, trained, tmp_path / "root", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics[score]["benchmark"] == name
    assert not any("mask" in each for each in metrics) or name != "voc2007"
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    assert run(name, trained, tmp_path / "root", tmp_path / "out") == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before


@pytest.fixture(scope="module")
def fitted_on_train(trained: Path) -> str:
    """Parameters by which clusters get their classes on other photos than the scored ones."""
    raw = json.loads((trained / "params.yaml").read_text())
    raw["evaluate"] |= {"fit_on": "train"}
    raw["benchmarks"]["voc2012_semantic"]["fit_sources"] = [
        {"kind": "voc", "path": "VOC2007", "split": "Segmentation/val"}
    ]
    raw["benchmarks"]["labels_folder"]["fit_sources"] = None
    (trained / "train.yaml").write_text(json.dumps(raw))
    return "train.yaml"


def test_clusters_get_their_classes_on_the_photos_of_fit_sources(
    fitted_on_train: str, trained: Path, tmp_path: Path
) -> None:
    BUILDERS["VOCdevkit"](tmp_path / "root")
    assert run("voc2012_semantic", trained, tmp_path / "root", tmp_path / "out", fitted_on_train) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["model.semantic_mIoU"]["split"] == "Segmentation/val"
    assert metrics["model.semantic_mIoU"]["fit_on"] == "Segmentation/val"
    assert metrics["generator.concepts_knn1_mIoU"]["mapping"] == "1 nearest neighbours"
    assert (tmp_path / "out/predict/train/model/index.json").exists()
    source = json.loads((tmp_path / "out/shards/fit/source.json").read_text())
    assert source["sources"][0]["path"] == "VOC2007"


def test_a_benchmark_without_fit_sources_says_what_to_set(
    fitted_on_train: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BUILDERS["labels"](tmp_path / "root")
    assert run("labels_folder", trained, tmp_path / "root", tmp_path / "out", fitted_on_train) == 2
    assert "benchmarks.labels_folder has no fit_sources" in capsys.readouterr().err.splitlines()[-1]


def test_a_benchmark_that_maps_no_clusters_needs_none(fitted_on_train: str, trained: Path, tmp_path: Path) -> None:
    BUILDERS["ECSSD"](tmp_path / "root")
    assert run("ecssd", trained, tmp_path / "root", tmp_path / "out", fitted_on_train) == 0


def test_a_crop_larger_than_what_it_is_cut_from_is_refused() -> None:
    raw = PARAMS.model_dump(mode="json", by_alias=True)
    raw["benchmarks"]["coco_stuff27"] |= {"short_side_px": 300}
    with pytest.raises(ValueError, match="crop_px 320 must be at most short_side_px, which is 300"):
        parse_params(raw)


def test_a_data_set_that_is_missing_is_one_line_that_says_what_to_put_where(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ecssd", trained, tmp_path / "nothing", tmp_path / "out") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "benchmarks.ecssd" in line
    assert "put into" in line
    assert "photos in images, masks of the same names in ground_truth_mask" in line
    assert run("nonsense", trained, tmp_path, tmp_path / "out") == 2
    assert "benchmarks has no nonsense; it has coco_val2017, coco_20k" in capsys.readouterr().err
