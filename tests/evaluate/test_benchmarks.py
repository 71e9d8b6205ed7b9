"""Every public benchmark, on a tiny copy of its layout: a perfect prediction scores all, and the step runs through."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import components.__main__
from oapseg.checkpoint.export import save_model
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.evaluate.benchmark import public_benchmark, settings_of
from oapseg.evaluate.look import look
from oapseg.evaluate.predictions import Maker, PhotoResults, Predictions, write_predictions
from oapseg.evaluate.scores import Group, score_maker
from oapseg.masks import mask_to_rle, rle_to_mask
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, default_params_path, load_params, parse_params
from oapseg.shards.read import Sample
from oapseg.shards.sources import list_benchmark
from oapseg.shards.write import write_set

sys.path.append(str(Path(__file__).parents[1] / "shards"))
from layouts import BUILDERS

PARAMS = load_params(default_params_path())
LARGER = 8  # times, so that stuff of the panoptic copies has the pixels that their protocols ask for
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


def enlarge(root: Path) -> None:
    """A copy of COCO's or Cityscapes' panoptic layout, all of it `LARGER` times as wide and high."""
    for file in sorted(root.rglob("*.*g")):
        pixels = np.asarray(Image.open(file)).repeat(LARGER, 0).repeat(LARGER, 1)
        Image.fromarray(pixels).save(file)
    for file in sorted(root.glob("annotations/*_val2017.json")):
        content = json.loads(file.read_text())
        for each in content["images"]:
            each |= {side: LARGER * each[side] for side in ("width", "height")}
        if file.name.startswith("instances"):
            content["annotations"] = []  # panoptic labels have the things
        file.write_text(json.dumps(content))


def perfect_scores(name: str, folder: Path, params: Params, *, larger: bool) -> Group:
    """What a perfect prediction of a benchmark's tiny copy is given by these parameters."""
    chosen = params.benchmarks[name]
    BUILDERS[Path(chosen.root).name](folder / "root")
    if larger:
        enlarge(folder / "root")
    listings = list_benchmark(name, chosen, str(folder / "root"))
    manifest = write_set(
        listings, str(folder / "shards"), samples_per_shard=2, max_broken=0.0, max_pixels=10**6, workers=1
    )

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        return [perfect(sample, chosen.tasks) for sample in samples]

    write_predictions(str(folder / "made"), manifest, predict, batch=2, fingerprint="", what=name)
    benchmark = public_benchmark(name, manifest, chosen)
    rules = settings_of(name, params).evaluate.model_copy(update={"bootstrap": 5})
    seen = look(manifest, Predictions(str(folder / "made")), benchmark, rules)
    return score_maker(Maker("", ""), seen, seen, "val", benchmark, rules, seed=0)


@pytest.mark.parametrize("name", PARAMS.benchmarks)
def test_a_perfect_prediction_scores_all_on_every_benchmark(name: str, tmp_path: Path) -> None:
    chosen = PARAMS.benchmarks[name]
    scores = perfect_scores(name, tmp_path, PARAMS, larger="panoptic" in chosen.tasks).measured
    assert "panoptic" not in chosen.tasks or scores["panoptic_PQ_stuff"].value == 1
    kinds = {"instance": chosen.measures, "semantic": ["semantic"], "panoptic": ["panoptic"], "saliency": ["saliency"]}
    for task in chosen.tasks:
        for kind in kinds[task]:
            whole = {each: scores[f"{kind}_{each}"].value for each in WHOLE if f"{kind}_{each}" in scores}
            known = {each: value for each, value in whole.items() if not np.isnan(value)}
            assert known
            assert known == pytest.approx(dict.fromkeys(known, 1.0), abs=1e-12)


def changed(**sections: Any) -> Params:
    """The parameters with other values in benchmark `coco_panoptic`, and elsewhere by section."""
    raw = PARAMS.model_dump(mode="json", by_alias=True)
    for name, values in sections.items():
        place = raw["benchmarks"]["coco_panoptic"] if name == "own" else raw[name]
        for key, value in values.items():
            place[key] = place[key] | value if isinstance(value, dict) else value
    return parse_params(raw)


def test_a_benchmark_is_scored_by_its_own_settings_and_its_records_say_so(tmp_path: Path) -> None:
    by_default = perfect_scores("coco_panoptic", tmp_path / "a", PARAMS, larger=False)
    params = changed(own={"evaluate": {"stuff_px": 3, "mapping": "hungarian"}})
    by_its_own = perfect_scores("coco_panoptic", tmp_path / "b", params, larger=False)
    assert (by_default.measured["panoptic_PQ"].value, by_its_own.measured["panoptic_PQ"].value) == (0.5, 1.0)
    first, second = (each.said["panoptic_PQ"] for each in (by_default, by_its_own))
    assert ("stuff from 4096 px" in first["protocol"], first["mapping"]) == (True, "votes")
    assert ("stuff from 3 px" in second["protocol"], second["mapping"]) == (True, "hungarian")


def test_what_a_benchmark_leaves_open_is_as_the_sections_say() -> None:
    params = changed(evaluate={"vote_score": 0.45, "stuff_px": 7}, predict={"flip": True, "windows": 3})
    for name, chosen in params.benchmarks.items():
        settings = settings_of(name, params)
        scored, looked = chosen.evaluate.model_dump(), chosen.predict.model_dump()
        for key, value in (settings.evaluate.model_dump() | {"max_dets": params.evaluate.max_dets}).items():
            expected = getattr(params.evaluate, key) if scored.get(key) is None else scored[key]
            assert value == (expected.model_dump() if key == "text" else expected)
        for key, value in (settings.predict.model_dump() | {"max_masks": params.predict.max_masks}).items():
            assert value == (getattr(params.predict, key) if looked.get(key) is None else looked[key])
        assert settings.evaluate.max_dets == chosen.max_dets <= settings.predict.max_masks
        assert settings.refine.crf == (chosen.crf or params.refine.crf)
    assert settings_of("ecssd", params).evaluate.vote_score == 0.45
    assert settings_of("coco_val2017", params).evaluate.vote_score == 0.6


def test_the_protocols_of_the_field_are_those_of_the_benchmarks() -> None:
    settings = {name: settings_of(name, PARAMS) for name in PARAMS.benchmarks}
    for name, chosen in PARAMS.benchmarks.items():
        assert "panoptic" not in chosen.tasks or settings[name].evaluate.stuff_px == 4096  # Panoptic FPN
    for name in ("coco_stuff27_curated", "coco_stuff27", "cityscapes27"):  # STEGO
        assert (settings[name].evaluate.mapping, settings[name].predict.flip) == ("hungarian", True)
        assert (settings[name].refine.crf.gaussian_weight, settings[name].refine.crf.bilateral_sigma_px) == (3, 67)
    for name in ("coco_val2017", "voc2012", "uvo_sparse"):  # U2Seg
        votes = settings[name].evaluate
        assert (votes.mapping, votes.vote_score, votes.vote_iou) == ("votes", 0.6, 0.7)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"evaluate": {"mapping": "best"}}, r"benchmarks\.coco_panoptic\.evaluate\.mapping: .* is 'best'"),
        ({"evaluate": {"stuff_px": -1}}, r"benchmarks\.coco_panoptic\.evaluate\.stuff_px: .* is -1"),
        ({"evaluate": {"bootstrap": 9}}, r"benchmarks\.coco_panoptic\.evaluate\.bootstrap: unknown key"),
        ({"predict": {"flip": 3}}, r"benchmarks\.coco_panoptic\.predict\.flip: .* is 3"),
        ({"crf": {"steps": 0}}, r"benchmarks\.coco_panoptic\.crf\.steps: .* is 0"),
    ],
)
def test_a_wrong_value_of_a_protocol_is_one_line(wrong: dict[str, Any], line: str) -> None:
    raw = PARAMS.model_dump(mode="json", by_alias=True)
    place = raw["benchmarks"]["coco_panoptic"]
    place["crf"] = raw["refine"]["crf"]
    for key, value in wrong.items():
        place[key] |= value
    with pytest.raises(ValueError, match=line) as error:
        parse_params(raw)
    assert "\n" not in str(error.value)


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
    ("name", "score", "said"),
    [
        ("voc2007", "model.class_box_AP50", {"mapping": "votes", "protocol": "scored at least 0.3 vote"}),
        ("cityscapes_panoptic", "model.panoptic_PQ", {"mapping": "hungarian+votes", "protocol": "stuff from 4096 px"}),
        ("coco_stuff27", "model.semantic_mIoU", {"mapping": "hungarian", "score_rule": "mirror images averaged in"}),
        ("duts_te", "model.saliency_IoU", {"protocol": "each at least 0.07 of the photo"}),
    ],
)
def test_the_step_goes_from_the_official_layout_to_scores_that_say_how(
    name: str, score: str, said: dict[str, str], trained: Path, tmp_path: Path
) -> None:
    BUILDERS[Path(PARAMS.benchmarks[name].root).name](tmp_path / "root")
    assert run(name, trained, tmp_path / "root", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics[score]["benchmark"] == name
    assert not any("mask" in each for each in metrics) or name != "voc2007"
    assert all(words in metrics[score][key] for key, words in said.items())
    scored_by = json.loads((tmp_path / "out" / "details.json").read_text())["scored_by"]["evaluate"]
    assert scored_by == settings_of(name, load_params(trained / "params.yaml")).evaluate.model_dump(mode="json")
    assert not {"predict", "evaluate", "crf"} & json.loads((tmp_path / "out/shards/source.json").read_text()).keys()
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    assert run(name, trained, tmp_path / "root", tmp_path / "out") == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before


def test_a_view_that_does_not_suit_the_encoder_is_one_line_that_names_the_benchmark(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BUILDERS["ECSSD"](tmp_path / "root")
    raw = json.loads((trained / "params.yaml").read_text())
    raw["benchmarks"]["ecssd"]["predict"] = {"image_px": 100}
    (trained / "odd.yaml").write_text(json.dumps(raw))
    assert run("ecssd", trained, tmp_path / "root", tmp_path / "out", "odd.yaml") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "predict (with benchmarks.ecssd.predict).image_px: 100 must be a multiple of the encoder's patch" in said


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
