"""Class-aware scores: clusters fitted on votes, then COCO's protocol over classes."""

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from oapseg.evaluate.class_aware import fit_mapping, score_class_aware
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
    scores = score_class_aware(truth, found, mapping, NO_RESAMPLES, 100)
    assert scores["mask_AP"].value == scores["box_AP"].value == pytest.approx(1.0)


def test_masks_of_one_cluster_over_two_classes_score_only_in_one() -> None:
    truth = labelled(block(0, category=18), block(100, category=3), block(0, image=2, category=18))
    found = [block(0, category=7), block(100, category=7), block(0, image=2, category=7)]
    scores = score_class_aware(truth, found, fit_mapping(truth, found, **USUAL), NO_RESAMPLES, 100)
    assert scores["mask_AR100"].value == pytest.approx(0.5)


def test_clusters_without_a_class_are_dropped() -> None:
    truth = labelled(block(0, category=18))
    assert score_class_aware(truth, [block(0, category=7)], {}, NO_RESAMPLES, 100)["mask_AP"].value == 0
