"""Class-aware instance scores (section 5.2): clusters become classes, then COCO's protocol over the classes."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from oapseg.evaluate.instances import INSTANCE, score_coco
from oapseg.evaluate.intervals import Measured
from oapseg.match.clusters import MAPPINGS, UNMAPPED, box_votes


def fit_mapping(
    truth: dict[str, Any], predictions: list[dict[str, Any]], *, rule: str, min_score: float, min_iou: float
) -> dict[int, int]:
    """The category of each cluster that has one, from instance masks scored at least `min_score` (U2Seg)."""
    classes = sorted(category["id"] for category in truth["categories"])
    labels = _by_photo([each for each in truth["annotations"] if not each["iscrowd"]])
    voters = _by_photo([each for each in predictions if each["kind"] == INSTANCE and each["score"] >= min_score])
    num_clusters = 1 + max((each["category_id"] for each in predictions), default=-1)
    votes = torch.zeros(num_clusters, len(classes), dtype=torch.long)
    for image_id, masks in voters.items():
        annotations = labels.get(image_id, [])
        votes += box_votes(
            torch.tensor([mask["category_id"] for mask in masks]),
            _boxes(masks),
            torch.tensor([classes.index(each["category_id"]) for each in annotations], dtype=torch.long),
            _boxes(annotations),
            min_iou=min_iou,
            shape=(num_clusters, len(classes)),
        )
    mapping = MAPPINGS[rule](votes).tolist()
    return {cluster: classes[index] for cluster, index in enumerate(mapping) if index != UNMAPPED}


def score_class_aware(
    truth: dict[str, Any],
    predictions: list[dict[str, Any]],
    mapping: dict[int, int],
    resamples: Int[np.ndarray, "R B"],
    max_dets: int,
) -> dict[str, Measured]:
    """Instance masks against annotations of their class, the mean over classes; masks without a class are dropped.

    The interval is that of the photos; the mapping stays as it was fitted.
    """
    masks = [
        each | {"category_id": mapping[each["category_id"]]}
        for each in predictions
        if each["kind"] == INSTANCE and each["category_id"] in mapping
    ]
    return score_coco(truth, masks, resamples, max_dets)


def protocol(max_dets: int) -> str:
    """How these scores are computed, in words; the mapping is said beside it."""
    return f"COCO, IoU 0.50:0.95, at most {max_dets} masks a photo and class, no score cut; mean over classes"


def _by_photo(annotations: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    photos: dict[int, list[dict[str, Any]]] = {}
    for annotation in annotations:
        photos.setdefault(annotation["image_id"], []).append(annotation)
    return photos


def _boxes(annotations: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([each["bbox"] for each in annotations], dtype=torch.float32).reshape(-1, 4)
