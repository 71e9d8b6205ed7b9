"""Class-aware scores: clusters fitted on votes, then COCO's protocol over classes."""

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from oapseg.evaluate import class_aware
from oapseg.evaluate.class_aware import protocol
from oapseg.evaluate.intervals import Measured
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.masks import mask_to_rle

NO_RESAMPLES = np.zeros((0, 2), dtype=np.int64)
USUAL: dict[str, Any] = {"rule": "votes", "min_score": 0.6, "min_iou": 0.7}


def block(x: int, *, image: int = 1, category: int, score: float = 0.9, kind: str = "instance") -> dict[str, Any]:
    mask = torch.zeros(60, 200, dtype=torch.bool)
    mask[10:50, x : x + 40] = True
    rle = mask_to_rle(mask)
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "bbox": [float(side) for side in coco_mask.toBbox(rle)],
        "area": float(coco_mask.area(rle)),
        "score": score,
        "kind": kind,
        "iscrowd": 0,
    }


def fit_mapping(truth: dict[str, Any], found: list[dict[str, Any]], **how: Any) -> dict[int, int]:
    return class_aware.fit_mapping(find_overlaps(by_photo(truth, found)), ids(truth), **how)


def score_class_aware(
    truth: dict[str, Any], found: list[dict[str, Any]], mapping: dict[int, int], max_dets: int = 100
) -> dict[str, Measured]:
    overlaps = find_overlaps(by_photo(truth, found))
    return class_aware.score_class_aware(overlaps, ids(truth), mapping, NO_RESAMPLES, max_dets)


def ids(truth: dict[str, Any]) -> list[int]:
    return [category["id"] for category in truth["categories"]]


def labelled(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "width": 200, "height": 60}, {"id": 2, "width": 200, "height": 60}],
        "annotations": list(annotations),
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }


def test_a_cluster_takes_the_class_of_the_annotations_it_covers() -> None:
    truth = labelled(block(0, category=18), block(100, category=3), block(0, image=2, category=18))
    found = [block(2, category=7), block(101, category=4), block(0, image=2, category=7)]
    assert fit_mapping(truth, found, **USUAL) == {7: 18, 4: 3}


def test_masks_below_the_vote_score_and_semantic_masks_do_not_vote() -> None:
    truth = labelled(block(0, category=18))
    found = [block(0, category=1, score=0.59), block(0, category=2, kind="semantic")]
    assert fit_mapping(truth, found, **USUAL) == {}


def test_a_crowd_gives_no_vote() -> None:
    truth = labelled(block(0, category=18) | {"iscrowd": 1})
    assert fit_mapping(truth, [block(0, category=1)], **USUAL) == {}


def test_without_predictions_no_cluster_is_mapped() -> None:
    assert fit_mapping(labelled(block(0, category=18)), [], **USUAL) == {}


@pytest.mark.parametrize("rule", ["votes", "hungarian", "hungarian+votes"])
def test_right_masks_in_consistent_clusters_score_one(rule: str) -> None:
    truth = labelled(block(0, category=18), block(100, category=3), block(0, image=2, category=18))
    found = [block(0, category=7), block(100, category=4), block(0, image=2, category=7)]
    mapping = fit_mapping(truth, found, **(USUAL | {"rule": rule}))
    scores = score_class_aware(truth, found, mapping)
    assert scores["mask_AP"].value == scores["box_AP"].value == pytest.approx(1.0)


def test_masks_of_one_cluster_over_two_classes_score_only_in_one() -> None:
    truth = labelled(block(0, category=18), block(100, category=3), block(0, image=2, category=18))
    found = [block(0, category=7), block(100, category=7), block(0, image=2, category=7)]
    scores = score_class_aware(truth, found, fit_mapping(truth, found, **USUAL))
    assert scores["mask_AR100"].value == pytest.approx(0.5)


def test_clusters_without_a_class_are_dropped() -> None:
    truth = labelled(block(0, category=18))
    assert score_class_aware(truth, [block(0, category=7)], {})["mask_AP"].value == 0


def test_shuffled_cluster_numbers_change_nothing() -> None:
    truth = labelled(block(0, category=18), block(100, category=3), block(0, image=2, category=18))
    found = [
        block(2, category=7),
        block(101, category=4, score=0.7),
        block(9, image=2, category=7),
        block(60, category=4),
    ]
    shuffled = [each | {"category_id": {7: 0, 4: 30}[each["category_id"]]} for each in found]
    first, second = (score_class_aware(truth, each, fit_mapping(truth, each, **USUAL)) for each in (found, shuffled))
    assert 0 < first["mask_AP"].value < 1
    assert [each.value for each in first.values()] == pytest.approx(
        [each.value for each in second.values()], nan_ok=True
    )


def test_votes_below_what_the_overlaps_hold_are_refused() -> None:
    truth = labelled(block(0, category=18))
    with pytest.raises(ValueError, match=r"least_iou 0.5 of the overlaps must be at most the votes' 0.3"):
        fit_mapping(truth, [block(0, category=7)], **(USUAL | {"min_iou": 0.3}))


def test_votes_at_a_low_iou_are_counted_where_the_overlaps_hold_them() -> None:
    truth, found = labelled(block(0, category=18)), [block(20, category=7)]  # IoU 1/3
    overlaps = find_overlaps(by_photo(truth, found), least_iou=0.3)
    assert class_aware.fit_mapping(overlaps, [18, 3], **(USUAL | {"min_iou": 0.3})) == {7: 18}


def test_an_annotation_of_an_unlisted_category_is_left_out() -> None:
    truth = labelled(block(0, category=18), block(100, category=99))
    assert score_class_aware(truth, [block(0, category=7)], {7: 18})["mask_AR100"].value == 1


def test_the_confusion_counts_what_each_annotation_is_taken_for() -> None:
    truth = labelled(
        block(0, category=18), block(100, category=3), block(0, image=2, category=18), block(90, image=2, category=18)
    )
    truth["annotations"] += [block(150, image=2, category=3), block(0, category=3) | {"iscrowd": 1}]
    found = [block(2, category=7), block(5, category=4), block(100, category=7), block(0, image=2, category=9)]
    found += [block(150, image=2, category=4, score=0.1)]
    table = class_aware.confusion(
        find_overlaps(by_photo(truth, found)), "mask", ids(truth), {7: 18, 4: 3}, min_score=0.5
    )
    car, dog = table.tolist()  # columns: car, dog, no class, missed
    assert car == [0, 1, 0, 1]
    assert dog == [0, 1, 1, 1]


SAME = {18: 18, 3: 3}


def searched(truth: dict[str, Any], **rules: list[int]) -> dict[str, Any]:
    """LVIS's word on the first photo; of the second nothing is known but its annotations."""
    empty: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    return truth | {"images": [truth["images"][0] | empty | rules, truth["images"][1] | empty]}


def test_a_class_that_a_photo_was_not_searched_for_is_not_wrong_there() -> None:
    truth = labelled(block(0, category=18), block(100, image=2, category=3))
    found = [block(60, category=3, score=0.99), block(0, category=18), block(100, image=2, category=3)]
    assert score_class_aware(truth, found, SAME)["mask_AP"].value == pytest.approx(0.75)
    federated = searched(truth, not_exhaustive_category_ids=[18])
    assert score_class_aware(federated, found, SAME)["mask_AP"].value == pytest.approx(1.0)


def test_a_class_that_is_known_to_be_absent_is_wrong() -> None:
    truth = searched(labelled(block(0, category=18), block(100, image=2, category=3)), neg_category_ids=[3])
    found = [block(60, category=3, score=0.99), block(0, category=18), block(100, image=2, category=3)]
    assert score_class_aware(truth, found, SAME)["mask_AP"].value == pytest.approx(0.75)


def test_a_class_that_is_not_annotated_throughout_is_never_wrong() -> None:
    truth = labelled(block(0, category=18))
    found = [block(100, category=18, score=0.99), block(0, category=18)]
    plain = score_class_aware(searched(truth, neg_category_ids=[3]), found, SAME)
    excused = score_class_aware(searched(truth, not_exhaustive_category_ids=[18]), found, SAME)
    assert [plain["mask_AP"].value, excused["mask_AP"].value] == pytest.approx([0.5, 1.0])


def test_the_limit_of_masks_is_one_of_the_whole_photo_by_the_rules_of_lvis() -> None:
    truth = labelled(block(0, category=18), block(100, category=3))
    found = [block(0, category=18, score=0.9), block(100, category=3, score=0.8)]
    assert score_class_aware(truth, found, SAME, 1)["mask_AR1"].value == 1
    assert score_class_aware(searched(truth, neg_category_ids=[99]), found, SAME, 1)["mask_AR1"].value == 0.5


def test_the_protocol_says_which_rules_hold() -> None:
    assert protocol(300, 0.3, 0.7, federated=True).startswith("LVIS")
    assert protocol(100, 0.6, 0.7).startswith("COCO")
    assert protocol(100, 0.6, 0.75).endswith("masks scored at least 0.6 vote by boxes of IoU above 0.75")
