"""All scores of an evaluation: named, qualified, in percent, and the same when read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oapseg.evaluate.predict import coco_results, write_results
from oapseg.evaluate.scores import EQUAL_RULE, Labelled, as_json, headlines, read_scores, score_all
from oapseg.masks import mask_to_rle
from oapseg.model.segmenter import Predicted
from oapseg.params import EvaluateParams, default_params_path, load_params

Truth = dict[str, Any]
Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def params() -> EvaluateParams:
    return load_params(default_params_path()).evaluate.model_copy(update={"bootstrap": 20})


def square(x: int, side: int) -> torch.Tensor:
    mask = torch.zeros(80, 120, dtype=torch.bool)
    mask[10 : 10 + side, x : x + side] = True
    return mask


def results(image_id: int, *masks: torch.Tensor, score: float = 1.0) -> list[dict[str, Any]]:
    count = len(masks)
    found = Predicted(
        torch.stack(masks) if masks else torch.zeros(0, 80, 120, dtype=torch.bool),
        torch.full((count,), score),
        torch.full((count,), 5),
        torch.zeros(count, dtype=torch.long),
    )
    return coco_results(image_id, found)


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    annotations = [
        {
            "id": image_id,
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 0,
            "area": 40 * 40,
            "bbox": [10 * image_id, 10, 40, 40],
            "segmentation": mask_to_rle(square(10 * image_id, 40)),
        }
        for image_id in range(1, 5)
    ]
    images = [{"id": image_id, "width": 120, "height": 80} for image_id in range(1, 5)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}


@pytest.fixture(scope="module")
def model(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for image in truth["images"] for each in results(image["id"], square(10 * image["id"], 40), score=0.7)]


@pytest.fixture(scope="module")
def generator(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for image in truth["images"][:2] for each in results(image["id"], square(10 * image["id"], 40))]


def test_gain_is_model_less_generator(truth: Truth, model: Results, generator: Results, params: EvaluateParams) -> None:
    val = Labelled("val", truth, model)
    scores = score_all(val, generator, val, params, seed=0)
    assert scores["model.mask_AR100"].value == 100
    assert scores["generator.mask_AR100"].value == 50
    assert scores["gain.mask_AR100"].value == 50
    low, high = scores["gain.mask_AR100"].low, scores["gain.mask_AR100"].high
    assert low is not None
    assert high is not None
    assert low < 50 < high


def test_every_score_says_how_it_was_made(
    truth: Truth, model: Results, generator: Results, params: EvaluateParams
) -> None:
    val = Labelled("val", truth, model)
    scores = score_all(val, generator, val, params, seed=0)
    assert all(
        each.protocol and each.split == "val" and each.images == 4 and each.score_rule for each in scores.values()
    )
    assert scores["generator.mask_AP"].score_rule == EQUAL_RULE
    classes = scores["classes.mask_AP"]
    assert (classes.value, classes.mapping, classes.fit_on, classes.mapped_clusters) == (100, "votes", "val", 1)


def test_scores_survive_json_and_the_headlines_are_few(
    truth: Truth, model: Results, generator: Results, params: EvaluateParams
) -> None:
    val = Labelled("val", truth, model)
    scores = score_all(val, generator, val, params, seed=0)
    assert read_scores(json.loads(json.dumps(as_json(scores), allow_nan=False))) == scores
    shown = headlines(scores, params.max_dets)
    names = {f"{kind}_{score}" for kind in ("mask", "box") for score in ("AP", "AP50", "AR100")}
    assert set(shown) == {f"{group}.{name}" for group in ("generator", "model", "gain", "classes") for name in names}


def test_scores_of_another_make_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"metrics.json: not as the step evaluate writes it"):
        read_scores({"model.mask_AP50": 3})


def test_a_size_that_no_annotation_has_is_absent(
    truth: Truth, model: Results, generator: Results, params: EvaluateParams
) -> None:
    val = Labelled("val", truth, model)
    scores = score_all(val, generator, val, params, seed=0)
    assert "model.mask_AP_medium" in scores
    assert "model.mask_AP_large" not in scores


def test_equal_seeds_give_equal_scores_and_others_other_intervals(
    truth: Truth, model: Results, generator: Results, params: EvaluateParams
) -> None:
    val = Labelled("val", truth, model)
    first, again, other = (score_all(val, generator, val, params, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert {name: each.value for name, each in first.items()} == {name: each.value for name, each in other.items()}


def test_a_box_is_the_tight_one_and_empty_masks_are_left_out() -> None:
    box, nothing = results(7, square(30, 25), torch.zeros(80, 120, dtype=torch.bool)), results(7)
    assert [each["bbox"] for each in box] == [[30, 10, 25, 25]]
    assert nothing == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_on_disk_are_the_results(tmp_path: Path, count: int) -> None:
    each = [{"image_id": number, "score": 0.1 * number} for number in range(count)]
    write_results(tmp_path / "results.json", iter(each))
    assert json.loads((tmp_path / "results.json").read_text()) == each


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "results.json", iter([{"score": np.nan}]))
    assert list(tmp_path.iterdir()) == []
