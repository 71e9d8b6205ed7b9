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

from oapseg.evaluate.class_aware import score_class_aware
from oapseg.evaluate.coco import IOU_THRESHOLDS, average_precision, average_recall, match
from oapseg.evaluate.instances import one_class, outcomes, precision_recall, score_class_agnostic
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.evaluate.overlaps import Overlaps, by_photo, find_overlaps
from oapseg.masks import mask_to_rle

SIDE = 160
CATEGORIES = (2, 5, 9, 11)  # the last is never annotated, and predicted


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


def case(seed: int, num_photos: int = 12, *, tied: float = 0.0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random annotations, some crowds, some twice, and predictions near some of them; some photos have neither.

    Photos are in no order of their ids; a share `tied` of the scores takes one of three values.
    """
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [photo(int(n)) for n in rng.permutation(10 * num_photos)[:num_photos]],
        "annotations": [],
        "categories": [{"id": c, "name": f"class {c}"} for c in CATEGORIES],
    }
    predictions = []

    def score() -> float:
        return float(rng.choice([0.25, 0.5, 1.0]) if rng.random() < tied else rng.random())

    for image in truth["images"]:
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = random_rectangle(rng)
            label = {"image_id": image["id"], "category_id": int(rng.choice(CATEGORIES[:-1]))}
            here = rectangle(x, y, w, h) | label
            for _ in range(2 if rng.random() < 0.1 else 1):
                number = len(truth["annotations"])
                truth["annotations"].append(here | {"id": number, "iscrowd": int(rng.random() < 0.15)})
            for _ in range(rng.integers(0, 5)):
                dx, dy = rng.integers(-4, 5, 2) * int(rng.random() < 0.7)
                near = rectangle(max(x + int(dx), 0), max(y + int(dy), 0), w, h)
                predictions.append(near | label | {"score": score(), "kind": "instance"})
        for _ in range(rng.integers(0, 4)):
            label = {"image_id": image["id"], "category_id": int(rng.choice([5, 11]))}
            predictions.append(rectangle(*random_rectangle(rng)) | label | {"score": score(), "kind": "instance"})
    rng.shuffle(predictions)  # type: ignore[arg-type]
    return truth, predictions


def found(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Overlaps:
    return find_overlaps(by_photo(truth, predictions))


def agnostic(truth: dict[str, Any], predictions: list[dict[str, Any]], max_dets: int = 100) -> dict[str, Measured]:
    return score_class_agnostic(found(truth, predictions), without(0, truth), max_dets)


def without(resamples: int, truth: dict[str, Any]) -> np.ndarray:
    return np.zeros((resamples, len(truth["images"])), dtype=np.int64)


def by_pycocotools(
    truth: dict[str, Any], predictions: list[dict[str, Any]], measure: str, max_dets: int = 100
) -> dict[str, float]:
    """COCOeval as its own documentation calls it; its summary knows AP at 100 masks only, so that is read off."""
    truth, predictions = copy.deepcopy(truth), copy.deepcopy(predictions)
    for number, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = number
    for prediction in predictions:
        prediction.pop("area")
        if measure == "mask":
            prediction.pop("bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), {"mask": "segm", "box": "bbox"}[measure])
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", f"AR{max_dets}"]
    names += [f"AR{max_dets}_{size}" for size in ("small", "medium", "large")]
    known = evaluation.eval["precision"][:, :, :, 0, 2]
    scores = dict(zip(names, evaluation.stats.tolist(), strict=True))
    return scores | {"AP": float(known[known > -1].mean()) if (known > -1).any() else -1.0}


def values(scores: dict[str, Measured], measure: str) -> dict[str, float]:
    """Scores of masks or boxes, with pycocotools' -1 where there is nothing to score."""
    return {
        name.removeprefix(f"{measure}_"): -1.0 if np.isnan(score.value) else score.value
        for name, score in scores.items()
        if name.startswith(measure)
    }


@pytest.mark.parametrize("measure", ["mask", "box"])
@pytest.mark.parametrize("seed", range(100))
def test_scores_over_classes_equal_pycocotools(seed: int, measure: str) -> None:
    truth, predictions = case(seed, num_photos=1 + seed % 8, tied=(seed % 3) / 2)
    max_dets = (100, 300, 1000, 12)[seed % 4]
    if not predictions:
        pytest.skip("pycocotools takes no empty results")
    same = {category: category for category in CATEGORIES}
    ours = score_class_aware(found(truth, predictions), CATEGORIES, same, without(0, truth), max_dets)
    assert values(ours, measure) == pytest.approx(by_pycocotools(truth, predictions, measure, max_dets), abs=1e-12)


@pytest.mark.parametrize("measure", ["mask", "box"])
@pytest.mark.parametrize("seed", range(200, 220))
def test_class_agnostic_scores_equal_pycocotools_on_one_category(seed: int, measure: str) -> None:
    truth, predictions = case(seed, tied=(seed % 2) / 2)
    one = copy.deepcopy(truth) | {"categories": [{"id": 1, "name": "object"}]}
    for annotation in one["annotations"]:
        annotation["category_id"] = 1
    merged = [each | {"category_id": 1} for each in predictions]
    ours = values(agnostic(truth, predictions), measure)
    assert ours == pytest.approx(by_pycocotools(one, merged, measure), abs=1e-12)


def test_a_perfect_prediction_scores_one() -> None:
    truth, _ = case(1)
    truth["annotations"] = [each | {"iscrowd": 0} for each in truth["annotations"]]
    perfect = [each | {"score": 0.5, "kind": "instance"} for each in truth["annotations"]]
    scores = agnostic(truth, perfect)
    assert {scores[name].value for name in ("mask_AP", "mask_AP75", "mask_AR100", "box_AP", "box_AR100")} == {1.0}


@pytest.mark.parametrize("measure", ["mask", "box"])
def test_dropping_one_right_mask_lowers_ar(measure: str) -> None:
    truth, _ = case(1)
    truth["annotations"] = [each | {"iscrowd": 0} for each in truth["annotations"]]
    perfect = [each | {"score": 0.5, "kind": "instance"} for each in truth["annotations"]]
    count = len(perfect)
    assert agnostic(truth, perfect[1:])[f"{measure}_AR100"].value == pytest.approx((count - 1) / count)


def test_no_predictions_score_zero() -> None:
    truth, _ = case(1)
    scores = agnostic(truth, [])
    assert scores["mask_AP"].value == scores["box_AR100"].value == 0.0


def test_no_annotations_at_all_are_not_a_number() -> None:
    truth, predictions = case(1)
    scores = score_class_agnostic(found({**truth, "annotations": []}, predictions), without(2, truth), 100)
    assert all(np.isnan(score.value) and score.interval() is None for score in scores.values())
    assert len(scores) == 24


def test_a_size_without_annotations_is_not_a_number() -> None:
    truth, predictions = case(1)
    truth["annotations"] = [each for each in truth["annotations"] if each["area"] < 32**2]
    resamples = resample_photos(len(truth["images"]), 3, 0)
    scores = score_class_agnostic(found(truth, predictions), resamples, 100)
    assert np.isnan(scores["mask_AP_large"].value)
    assert scores["mask_AP_large"].interval() is None


def test_labels_that_are_boxes_alone_give_the_scores_of_boxes_alone() -> None:
    truth, predictions = case(2)
    boxes = {**truth, "annotations": [{**each} for each in truth["annotations"]]}
    del boxes["annotations"][-1]["segmentation"]
    scores, whole = agnostic(boxes, predictions), agnostic(truth, predictions)
    assert list(scores) == [name for name in whole if name.startswith("box_")]
    assert values(scores, "box") == values(whole, "box")


def test_better_scores_for_better_masks_raise_ap_but_not_ar() -> None:
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation()]}
    right, wrong = rectangle(0, 0, 50, 50) | result(0.9), rectangle(80, 80, 50, 50) | result(0.1)
    first = agnostic(truth, [right, wrong])
    last = agnostic(truth, [right | {"score": 0.1}, wrong | {"score": 0.9}])
    assert [first["mask_AP"].value, last["mask_AP"].value] == pytest.approx([1.0, 0.5])
    assert first["mask_AR100"].value == last["mask_AR100"].value == 1.0


def test_equal_scores_rank_in_the_order_given() -> None:
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation()]}
    right, wrong = rectangle(0, 0, 50, 50) | result(1.0), rectangle(80, 80, 50, 50) | result(1.0)
    ar1 = [agnostic(truth, both)["mask_AR1"].value for both in ([right, wrong], [wrong, right])]
    assert ar1 == [1.0, 0.0]


def test_a_mask_on_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = rectangle(80, 80, 70, 70) | annotation() | {"iscrowd": 1}
    truth = {"images": [photo(1)], "categories": [], "annotations": [rectangle(0, 0, 50, 50) | annotation(), crowd]}
    masks = [rectangle(90, 90, 20, 20) | result(0.9), rectangle(0, 0, 50, 50) | result(0.5)]
    assert agnostic(truth, masks)["mask_AP"].value == pytest.approx(1.0)


def test_semantic_masks_are_not_scored_as_instances() -> None:
    truth, predictions = case(2)
    strays = [each | {"kind": "semantic", "score": 2.0} for each in predictions]
    assert values(agnostic(truth, predictions + strays), "mask") == values(agnostic(truth, predictions), "mask")


def test_the_order_of_photos_changes_nothing() -> None:
    truth, predictions = case(4, tied=1.0)
    photos = list(by_photo(truth, predictions))
    weights = resample_photos(len(photos), 3, seed=0)
    for first, second in zip(
        score_class_agnostic(find_overlaps(photos), weights, 100).values(),
        score_class_agnostic(find_overlaps(photos[::-1]), weights, 100).values(),
        strict=True,
    ):
        np.testing.assert_array_equal([first.value, *first.resampled], [second.value, *second.resampled])


def test_drawing_every_photo_once_gives_the_score_itself() -> None:
    truth, predictions = case(3)
    identity = np.ones((1, len(truth["images"])), dtype=np.int64)
    for score in score_class_agnostic(found(truth, predictions), identity, 100).values():
        np.testing.assert_array_equal(score.resampled, [score.value])


@pytest.mark.parametrize("seed", range(5))
def test_a_weighted_photo_scores_as_copies_of_it_do(seed: int) -> None:
    truth, predictions = case(seed)
    truth["images"].sort(key=lambda image: image["id"])
    weights = np.random.default_rng(seed).integers(0, 3, len(truth["images"]))
    copies: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    copied_predictions = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for number in range(weight):
            moved = {"image_id": 1000 * image["id"] + number}
            copies["images"].append(photo(moved["image_id"]))
            copies["annotations"] += [a | moved for a in truth["annotations"] if a["image_id"] == image["id"]]
            copied_predictions += [p | moved for p in predictions if p["image_id"] == image["id"]]
    weighted = score_class_agnostic(found(truth, predictions), weights[None], 100)
    copied = agnostic(copies, copied_predictions)
    for name, score in weighted.items():
        np.testing.assert_allclose(score.resampled, [copied[name].value], atol=1e-12)


def test_the_bootstrap_is_seeded_and_its_interval_holds_the_score() -> None:
    truth, predictions = case(6, num_photos=30)
    draws = resample_photos(30, 100, seed=7)
    np.testing.assert_array_equal(draws, resample_photos(30, 100, seed=7))
    assert (draws.sum(1) == 30).all()
    score = score_class_agnostic(found(truth, predictions), draws, 100)["mask_AR100"]
    low, high = score.interval() or (np.nan, np.nan)
    assert low < score.value < high


def test_the_gain_of_a_score_over_itself_is_zero_with_no_width() -> None:
    truth, predictions = case(6)
    score = score_class_agnostic(found(truth, predictions), resample_photos(12, 20, seed=0), 100)["mask_AP50"]
    assert gain(score, score).value == 0
    assert gain(score, score).interval() == (0, 0)


def test_a_smaller_limit_renames_and_bounds_the_recall() -> None:
    truth, predictions = case(7)
    scores = agnostic(truth, predictions, 5)
    assert scores["mask_AR1"].value <= scores["mask_AR5"].value
    assert "mask_AR10" not in scores


def test_precision_without_annotations_is_not_a_number() -> None:
    overlaps = found(*case(8))
    classes, label_classes = (np.zeros(len(each), dtype=np.int64) for each in (overlaps.score, overlaps.label_area))
    _, _, matches = next(match(overlaps, "mask", classes, label_classes, 100))
    assert np.isnan(average_precision(matches, np.zeros((1, 12), dtype=np.int64))).all()


def test_the_mean_of_a_precision_recall_curve_is_ap() -> None:
    overlaps = found(*case(9))
    weights = np.ones((1, 12), dtype=np.int64)
    curve = precision_recall(overlaps, "mask", weights, 100)
    assert curve.shape == (1, len(IOU_THRESHOLDS), 101)
    assert (np.diff(curve, axis=2) <= 0).all()
    assert curve.mean() == pytest.approx(score_class_agnostic(overlaps, weights[:0], 100)["mask_AP"].value, abs=1e-12)


def test_outcomes_count_what_was_found_missed_and_wrong_in_each_photo() -> None:
    whole, shifted, crowd = rectangle(0, 0, 50, 50), rectangle(0, 5, 50, 50), rectangle(60, 60, 80, 80)
    labels = [whole | annotation(), crowd | annotation() | {"iscrowd": 1}, whole | annotation() | {"image_id": 3}]
    truth = {"images": [photo(3), photo(2), photo(1)], "categories": [], "annotations": labels}
    masks = [shifted | result(0.9), rectangle(90, 0, 20, 20) | result(0.8), rectangle(70, 70, 9, 9) | result(0.8)]
    masks += [whole | result(0.2) | {"image_id": 3}]
    came = outcomes(found(truth, masks), "mask", 100, min_score=0.5)
    assert [each.tolist() for each in came[:4]] == [[1, 2, 3], [1, 0, 1], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(came.best_iou, [45 / 55, np.nan, 1.0])


def test_outcomes_over_all_photos_give_the_recall_of_the_score() -> None:
    truth, predictions = case(10)
    overlaps = found(truth, predictions)
    came, whole = outcomes(overlaps, "mask", 100), np.ones((1, len(overlaps.image_ids)), dtype=np.int64)
    (matches,) = (each for _, area, each in match(overlaps, "mask", *one_class(overlaps), 100) if area == "all")
    recall = average_recall(matches, whole, 100)[0, 0]
    assert 0 < recall < 1
    assert came.found.sum() / came.truths.sum() == pytest.approx(recall, abs=1e-12)


def annotation() -> dict[str, Any]:
    return {"id": 0, "image_id": 1, "category_id": 1, "iscrowd": 0}


def result(score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "score": score, "kind": "instance"}
