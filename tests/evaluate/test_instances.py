"""Instance scores: equal to pycocotools', bounded by perfection, steady under the bootstrap."""

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from oapseg.evaluate.coco import average_precision, match
from oapseg.evaluate.instances import score_class_agnostic, score_coco
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.masks import mask_to_rle

SIDE = 160


def photo(image_id: int) -> dict[str, Any]:
    return {"id": image_id, "width": SIDE, "height": SIDE}


def rectangle(x: int, y: int, w: int, h: int) -> dict[str, Any]:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    rle = mask_to_rle(mask)
    box = [float(side) for side in coco_mask.toBbox(rle)]
    return {"segmentation": rle, "bbox": box, "area": float(coco_mask.area(rle))}


def random_rectangle(rng: np.random.Generator) -> tuple[int, int, int, int]:
    x, y = rng.integers(0, SIDE - 10, 2)
    w, h = rng.integers(6, 120, 2)
    return int(x), int(y), int(min(w, SIDE - x)), int(min(h, SIDE - y))


def case(seed: int, num_photos: int = 12, *, ties: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random annotations of three classes, some crowds, and predictions near some of them."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [photo(10 * n + 3) for n in range(num_photos)],
        "annotations": [],
        "categories": [{"id": c, "name": f"class {c}"} for c in (2, 5, 9)],
    }
    predictions = []
    for image in truth["images"]:
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = random_rectangle(rng)
            label = {"image_id": image["id"], "category_id": int(rng.choice([2, 5, 9]))}
            truth["annotations"].append(
                rectangle(x, y, w, h) | label | {"id": len(truth["annotations"]), "iscrowd": int(rng.random() < 0.15)}
            )
            for _ in range(rng.integers(0, 4)):
                shift = rng.integers(-4, 5, 2)
                near = rectangle(max(x + int(shift[0]), 0), max(y + int(shift[1]), 0), w, h)
                score = 1.0 if ties else float(rng.random())
                predictions.append(near | label | {"score": score, "kind": "instance"})
        for _ in range(rng.integers(0, 4)):
            stray = rectangle(*random_rectangle(rng)) | {"image_id": image["id"], "category_id": 5}
            predictions.append(stray | {"score": float(rng.random()), "kind": "instance"})
    return truth, predictions


def without(resamples: int, truth: dict[str, Any]) -> np.ndarray:
    return np.zeros((resamples, len(truth["images"])), dtype=np.int64)


def by_pycocotools(
    truth: dict[str, Any], predictions: list[dict[str, Any]], measure: str, max_dets: int = 100
) -> dict[str, float]:
    """COCOeval as its own documentation calls it."""
    truth, predictions = copy.deepcopy(truth), copy.deepcopy(predictions)
    for number, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = number
    for prediction in predictions:
        prediction.pop("area")
        if measure == "segm":
            prediction.pop("bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), measure)
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", f"AR{max_dets}"]
    names += [f"AR{max_dets}_{size}" for size in ("small", "medium", "large")]
    return dict(zip(names, evaluation.stats.tolist(), strict=True))


def values(scores: dict[str, Measured], prefix: str) -> dict[str, float]:
    """Scores of masks or boxes, with pycocotools' -1 where there is nothing to score."""
    return {
        name.removeprefix(prefix): -1.0 if np.isnan(score.value) else score.value
        for name, score in scores.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("measure", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(5))
def test_scores_over_classes_equal_pycocotools(seed: int, measure: str) -> None:
    truth, predictions = case(seed, ties=seed == 4)
    ours = values(score_coco(truth, predictions, without(0, truth), 100), "mask_" if measure == "segm" else "box_")
    assert ours == pytest.approx(by_pycocotools(truth, predictions, measure), abs=1e-12)


def test_class_agnostic_scores_equal_pycocotools_on_one_category() -> None:
    truth, predictions = case(11)
    one = copy.deepcopy(truth) | {"categories": [{"id": 1, "name": "object"}]}
    for annotation in one["annotations"]:
        annotation["category_id"] = 1
    merged = [each | {"category_id": 1} for each in predictions]
    ours = values(score_class_agnostic(truth, predictions, without(0, truth), 100), "mask_")
    assert ours == pytest.approx(by_pycocotools(one, merged, "segm"), abs=1e-12)


def test_a_perfect_prediction_scores_one() -> None:
    truth, _ = case(1)
    truth["annotations"] = [each | {"iscrowd": 0} for each in truth["annotations"]]
    perfect = [each | {"score": 0.5, "kind": "instance"} for each in truth["annotations"]]
    scores = score_class_agnostic(truth, perfect, without(0, truth), 100)
    assert {scores[name].value for name in ("mask_AP", "mask_AP75", "mask_AR100", "box_AP", "box_AR100")} == {1.0}


def test_no_predictions_score_zero() -> None:
    truth, _ = case(1)
    scores = score_class_agnostic(truth, [], without(0, truth), 100)
    assert scores["mask_AP"].value == scores["box_AR100"].value == 0.0


def test_a_size_without_annotations_is_not_a_number() -> None:
    truth, predictions = case(1)
    truth["annotations"] = [each for each in truth["annotations"] if each["area"] < 32**2]
    scores = score_class_agnostic(truth, predictions, resample_photos(len(truth["images"]), 3, 0), 100)
    assert np.isnan(scores["mask_AP_large"].value)
    assert scores["mask_AP_large"].interval() is None


def test_better_scores_for_better_masks_raise_ap_but_not_ar() -> None:
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation()]}
    right, wrong = rectangle(0, 0, 50, 50) | result(0.9), rectangle(80, 80, 50, 50) | result(0.1)
    none = without(0, truth)
    first = score_class_agnostic(truth, [right, wrong], none, 100)
    last = score_class_agnostic(truth, [right | {"score": 0.1}, wrong | {"score": 0.9}], none, 100)
    assert [first["mask_AP"].value, last["mask_AP"].value] == pytest.approx([1.0, 0.5])
    assert first["mask_AR100"].value == last["mask_AR100"].value == 1.0


def test_equal_scores_rank_in_the_order_given() -> None:
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation()]}
    right, wrong = rectangle(0, 0, 50, 50) | result(1.0), rectangle(80, 80, 50, 50) | result(1.0)
    ar1 = [
        score_class_agnostic(truth, both, without(0, truth), 100)["mask_AR1"].value
        for both in ([right, wrong], [wrong, right])
    ]
    assert ar1 == [1.0, 0.0]


def test_a_mask_on_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = rectangle(80, 80, 70, 70) | annotation() | {"iscrowd": 1}
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation(), crowd]}
    masks = [rectangle(90, 90, 20, 20) | result(0.9), rectangle(0, 0, 50, 50) | result(0.5)]
    assert score_class_agnostic(truth, masks, without(0, truth), 100)["mask_AP"].value == pytest.approx(1.0)


def test_semantic_masks_are_not_scored_as_instances() -> None:
    truth, predictions = case(2)
    none = without(0, truth)
    strays = [each | {"kind": "semantic", "score": 2.0} for each in predictions]
    assert values(score_class_agnostic(truth, predictions + strays, none, 100), "mask_") == values(
        score_class_agnostic(truth, predictions, none, 100), "mask_"
    )


def test_drawing_every_photo_once_gives_the_score_itself() -> None:
    truth, predictions = case(3)
    identity = np.ones((1, len(truth["images"])), dtype=np.int64)
    for score in score_class_agnostic(truth, predictions, identity, 100).values():
        np.testing.assert_array_equal(score.resampled, [score.value])


def test_a_weighted_photo_scores_as_copies_of_it_do() -> None:
    truth, predictions = case(5)
    weights = np.random.default_rng(0).integers(0, 3, len(truth["images"]))
    copies: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    copied_predictions = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for number in range(weight):
            moved = {"image_id": 1000 * image["id"] + number}
            copies["images"].append(photo(moved["image_id"]))
            copies["annotations"] += [a | moved for a in truth["annotations"] if a["image_id"] == image["id"]]
            copied_predictions += [p | moved for p in predictions if p["image_id"] == image["id"]]
    weighted = score_class_agnostic(truth, predictions, weights[None], 100)
    copied = score_class_agnostic(copies, copied_predictions, without(0, copies), 100)
    for name, score in weighted.items():
        np.testing.assert_allclose(score.resampled, [copied[name].value], atol=1e-12)


def test_the_bootstrap_is_seeded_and_its_interval_holds_the_score() -> None:
    truth, predictions = case(6, num_photos=30)
    draws = resample_photos(30, 100, seed=7)
    np.testing.assert_array_equal(draws, resample_photos(30, 100, seed=7))
    assert (draws.sum(1) == 30).all()
    score = score_class_agnostic(truth, predictions, draws, 100)["mask_AR100"]
    low, high = score.interval() or (np.nan, np.nan)
    assert low < score.value < high


def test_the_gain_of_a_score_over_itself_is_zero_with_no_width() -> None:
    truth, predictions = case(6)
    score = score_class_agnostic(truth, predictions, resample_photos(12, 20, seed=0), 100)["mask_AP50"]
    assert gain(score, score).value == 0
    assert gain(score, score).interval() == (0, 0)


def test_a_smaller_limit_renames_and_bounds_the_recall() -> None:
    truth, predictions = case(7)
    scores = score_class_agnostic(truth, predictions, without(0, truth), 5)
    assert scores["mask_AR1"].value <= scores["mask_AR5"].value
    assert "mask_AR10" not in scores


def test_precision_without_annotations_is_not_a_number() -> None:
    truth, predictions = case(8)
    matches = match(truth, predictions, "segm", 100)[2, "all"]
    assert np.isnan(average_precision(matches, np.zeros(len(truth["images"]), dtype=np.int64))).all()


def annotation() -> dict[str, Any]:
    return {"id": 0, "image_id": 1, "category_id": 1, "iscrowd": 0}


def result(score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "score": score, "kind": "instance"}
