"""All scores of a benchmark: perfect where predictions are, named, qualified, in percent, the same when read back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from oapseg.evaluate.benchmark import Benchmark, own_benchmark
from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.look import Seen, look
from oapseg.evaluate.predict import EQUAL_RULE, coco_results
from oapseg.evaluate.predictions import Maker, PhotoResults, Predictions, write_predictions, write_results
from oapseg.evaluate.scores import (
    Score,
    as_json,
    as_scores,
    headlines,
    read_scores,
    score_maker,
)
from oapseg.masks import mask_to_rle, rle_to_mask
from oapseg.model.predicted import Predicted
from oapseg.params import EvaluateParams, SampleParams, SetParams, Source, default_params_path, load_params
from oapseg.shards.manifest import Manifest
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set

GENERATOR = Maker(EQUAL_RULE, "painted", checkpoint="facade", generator="oap")
MODEL = Maker("own", "votes", checkpoint="c0ffee", views="the whole photo at 96 px")
CLUSTERED = "clusters by k-means of the masks' features into 9"
PERFECT = ("mask_AP", "mask_AR100", "box_AP", "class_mask_AP", "class_box_AR100", "semantic_accuracy", "semantic_mIoU")
PERFECT += ("semantic_mean_accuracy", "panoptic_PQ", "panoptic_SQ", "panoptic_RQ_things", "panoptic_PQ_stuff")

Results = dict[int, list[dict[str, Any]]]  # of each image
Change = Callable[[Results], Results]


@pytest.fixture(scope="module")
def params() -> EvaluateParams:
    chosen = {"bootstrap": 20, "stuff_px": 0, "mapping": "hungarian", "feature_clusters": 9}
    return load_params(default_params_path()).evaluate.model_copy(update=chosen)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Photos of the embedded sample, with all kinds of labels."""
    folder = tmp_path_factory.mktemp("sample")
    make_sample(str(folder / "sample"), SampleParams(train=1, val=6, size_px=96), seed=0, workers=1)
    source = Source(kind="coco", path=".", split="val")
    listed = list_set(SetParams(root=str(folder / "sample"), sources=[source]))
    return write_set(listed, str(folder / "val"), samples_per_shard=4, max_broken=0.0, max_pixels=10**6, workers=1)


@pytest.fixture(scope="module")
def benchmark(manifest: Manifest, params: EvaluateParams) -> Benchmark:
    return own_benchmark("shapes", manifest, "val", params)


@pytest.fixture(scope="module")
def perfect(manifest: Manifest) -> Results:
    """What is annotated, as if it had been predicted; a category's number is its cluster's."""

    def result(labels: dict[str, Any], segment: dict[str, Any], kind: str) -> dict[str, Any]:
        values = {name: segment[name] for name in ("category_id", "segmentation")}
        return {"image_id": labels["image_id"], "score": 0.9, "kind": kind, **values, "bbox": segment.get("bbox")}

    def regions(labels: dict[str, Any]) -> list[dict[str, Any]]:
        masks: dict[int, torch.Tensor] = {}
        for segment in labels["panoptic"]:
            mask = rle_to_mask(segment["segmentation"])
            masks[segment["category_id"]] = masks.get(segment["category_id"], torch.zeros_like(mask)) | mask
        return [
            result(labels, {"category_id": cluster, "segmentation": mask_to_rle(mask)}, "region")
            for cluster, mask in masks.items()
        ]

    return {
        labels["image_id"]: [*(result(labels, each, "instance") for each in labels["instances"]), *regions(labels)]
        for labels in all_labels(manifest)
    }


@pytest.fixture(scope="module")
def seen(
    manifest: Manifest,
    benchmark: Benchmark,
    perfect: Results,
    params: EvaluateParams,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Change], Seen]:
    """The perfect predictions, changed, by way of the disk."""

    def see(change: Change) -> Seen:
        folder, changed = str(tmp_path_factory.mktemp("predictions")), change(perfect)

        def predict(samples: list[Any]) -> list[PhotoResults]:
            return [PhotoResults(changed[sample.labels["image_id"]]) for sample in samples]

        write_predictions(folder, manifest, predict, batch=2, fingerprint="", what="test")
        return look(manifest, Predictions(folder), benchmark, params)

    return see


@pytest.fixture(scope="module")
def scored(
    manifest: Manifest, benchmark: Benchmark, seen: Callable[[Change], Seen], params: EvaluateParams
) -> Callable[..., dict[str, Score]]:
    """Scores of a model, whose generator sees every photo but the first as it is annotated."""
    first = min(labels["image_id"] for labels in all_labels(manifest))
    half = seen(lambda results: results | {first: []})

    def score(change: Change = lambda results: results, seed: int = 0) -> dict[str, Score]:
        groups = {}
        for name, maker, each in (("generator", GENERATOR, half), ("model", MODEL, seen(change))):
            groups[name] = score_maker(maker, each, each, "val", benchmark, params, seed)
        return as_scores(groups)

    return score


def each_result(results: Results, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Results:
    return {image: [change(result) for result in of_image] for image, of_image in results.items()}


@pytest.fixture(scope="module")
def whole(scored: Callable[..., dict[str, Score]]) -> dict[str, Score]:
    return scored()


@pytest.mark.parametrize("name", PERFECT)
def test_a_perfect_prediction_scores_all(name: str, whole: dict[str, Score]) -> None:
    assert whole[f"model.{name}"].value == 100
    assert whole[f"generator.{name}"].value < 100
    assert whole[f"gain.{name}"].value == pytest.approx(100 - whole[f"generator.{name}"].value, abs=2e-3)


def test_another_numbering_of_the_clusters_changes_nothing(
    scored: Callable[..., dict[str, Score]], whole: dict[str, Score]
) -> None:
    shuffled = scored(
        lambda results: each_result(results, lambda each: each | {"category_id": 99 - each["category_id"]})
    )
    assert {name: each.value for name, each in shuffled.items()} == {name: each.value for name, each in whole.items()}


def test_a_mask_that_is_dropped_lowers_recall_and_panoptic_quality(
    scored: Callable[..., dict[str, Score]], whole: dict[str, Score]
) -> None:
    def without_one(results: Results) -> Results:
        image = next(iter(results))
        return results | {image: results[image][1:]}

    dropped = scored(without_one)
    for name in ("mask_AR100", "class_mask_AR100", "panoptic_PQ_things"):
        assert dropped[f"model.{name}"].value < whole[f"model.{name}"].value


def test_every_score_says_how_it_was_made(whole: dict[str, Score], manifest: Manifest) -> None:
    for name, each in whole.items():
        assert each.protocol
        assert (each.benchmark, each.split, each.images, each.data) == ("shapes", "val", 6, manifest.sha256)
        assert (each.mapping is not None) == any(kind in name for kind in ("class_", "semantic_", "panoptic_"))
    assert whole["generator.mask_AP"].score_rule == EQUAL_RULE
    assert whole["model.mask_AP"].score_rule == "own; the whole photo at 96 px"
    assert whole["model.semantic_mIoU"].score_rule == "votes; the whole photo at 96 px"
    assert whole["model.panoptic_PQ"].score_rule == "own; regions: votes; the whole photo at 96 px"
    assert whole["generator.class_mask_AP"].score_rule == f"{EQUAL_RULE}; {CLUSTERED}"
    assert whole["generator.semantic_mIoU"].score_rule == f"painted; {CLUSTERED}"
    assert whole["generator.panoptic_PQ"].score_rule == f"{EQUAL_RULE}; regions: painted; {CLUSTERED}"
    for group, checkpoint in (("model", "c0ffee"), ("generator", "facade"), ("gain", "c0ffee")):
        assert {each.checkpoint for name, each in whole.items() if name.startswith(group)} == {checkpoint}
    assert "masks scored at least 0.3 vote by boxes of IoU above 0.7" in whole["model.class_mask_AP"].protocol
    assert (whole["model.semantic_mIoU"].fit_on, whole["model.semantic_mIoU"].mapping) == ("val", "hungarian")


def test_scores_survive_json_and_the_headlines_are_few(whole: dict[str, Score], params: EvaluateParams) -> None:
    assert read_scores(json.loads(json.dumps(as_json(whole), allow_nan=False))) == whole
    names = {f"{kind}_{score}" for kind in ("mask", "box") for score in ("AP", "AP50", "AR100")}
    names |= {f"class_{kind}_{score}" for kind in ("mask", "box") for score in ("AP", "AP50")}
    names |= {"semantic_mIoU", "panoptic_PQ"}
    shown = headlines(whole, params.max_dets)
    assert set(shown) == {f"{group}.{name}" for group in ("generator", "model", "gain") for name in names}


def test_scores_of_another_make_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"metrics.json: not as the step evaluate writes it"):
        read_scores({"model.mask_AP50": 3})


def test_a_size_that_no_annotation_has_is_absent(whole: dict[str, Score]) -> None:
    assert "model.mask_AP_small" in whole
    assert "model.mask_AP_large" not in whole


def test_equal_seeds_give_equal_scores_and_others_other_intervals(
    scored: Callable[..., dict[str, Score]], whole: dict[str, Score]
) -> None:
    again, other = scored(), scored(seed=4)
    assert again == whole
    assert other != whole
    assert {name: replace(each, low=None, high=None) for name, each in other.items()} == {
        name: replace(each, low=None, high=None) for name, each in whole.items()
    }


def results_of(*masks: torch.Tensor) -> list[dict[str, Any]]:
    soft = torch.stack(masks).float() if masks else torch.zeros(0, 80, 120)
    count = torch.zeros(len(masks), dtype=torch.long)
    return coco_results(7, Predicted(soft, 0.5, (80, 120), torch.ones(len(masks)), count, count, soft[:0], count[:0]))


def test_a_box_is_the_tight_one_and_empty_masks_are_left_out() -> None:
    square = torch.zeros(80, 120)
    square[10:35, 30:55] = 1
    assert [each["bbox"] for each in results_of(square, torch.zeros(80, 120))] == [[30, 10, 25, 25]]
    assert results_of() == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_on_disk_are_the_results(tmp_path: Path, count: int) -> None:
    each = [{"image_id": number, "score": 0.1 * number} for number in range(count)]
    write_results(tmp_path / "results.json", iter(each))
    assert json.loads((tmp_path / "results.json").read_text()) == each
