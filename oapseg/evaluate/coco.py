"""COCO's instance protocol: matching by pycocotools, accumulation here, so that photos can be weighted.

`COCOeval.accumulate` with every weight 1 is what `average_precision` and `average_recall` compute (a test holds them
equal); an integer weight stands for that many copies of a photo, without matching it again.
"""

import contextlib
import io
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Measure = Literal["segm", "bbox"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's grid
RECALL_THRESHOLDS = np.linspace(0, 1, 101)  # COCO's grid
AREAS_PX = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # COCO's, px²


class Matches(NamedTuple):
    """Detections of one category and area range over all photos, best score first, ties in the order given."""

    photo: Int[np.ndarray, " S"]
    rank: Int[np.ndarray, " S"]  # place among the detections of its photo, from 0
    hit: Bool[np.ndarray, "T S"]  # matched with an annotation that counts
    ignored: Bool[np.ndarray, "T S"]  # matched with a crowd or out of the area range
    num_truths: Int[np.ndarray, " B"]  # annotations that count


def match(
    truth: dict[str, Any], predictions: Iterable[dict[str, Any]], measure: Measure, max_dets: int
) -> dict[tuple[int, str], Matches]:
    """Match COCO results with a COCO data set, by category id and name of area range.

    Photos are in the order of their ids. Of each photo and category the `max_dets` best detections count.
    """
    evaluation = COCOeval(_index(truth["images"], truth["annotations"], truth["categories"]), iouType=measure)
    evaluation.cocoDt = _index(truth["images"], _detections(predictions, measure), truth["categories"])
    evaluation.params.imgIds = sorted(image["id"] for image in truth["images"])
    evaluation.params.catIds = sorted(category["id"] for category in truth["categories"])
    evaluation.params.maxDets = [max_dets]
    evaluation.params.iouThrs = IOU_THRESHOLDS
    evaluation.params.areaRng = [list(limits) for limits in AREAS_PX.values()]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    num_photos = len(truth["images"])
    groups = [(int(category), area) for category in evaluation.params.catIds for area in AREAS_PX]
    return {
        group: _gather(evaluation.evalImgs[index * num_photos : (index + 1) * num_photos])
        for index, group in enumerate(groups)
    }


def average_precision(matches: Matches, weights: Int[np.ndarray, " B"]) -> Float[np.ndarray, " T"]:
    """Mean of the interpolated precision over 101 recalls, at each IoU threshold; NaN without annotations."""
    num_truths = int(weights @ matches.num_truths)
    if num_truths == 0:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    if matches.photo.size == 0:
        return np.zeros(len(IOU_THRESHOLDS))
    weight = weights[matches.photo]
    hits = np.cumsum(matches.hit * weight, axis=1).astype(float)
    counted = np.cumsum(~matches.ignored * weight, axis=1)
    precision = hits / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.pad(envelope, ((0, 0), (0, 1)))  # recalls that are never reached have precision 0
    recall = hits / num_truths
    return np.array(
        [row[np.searchsorted(at, RECALL_THRESHOLDS)].mean() for row, at in zip(reached, recall, strict=True)]
    )


def average_recall(matches: Matches, weights: Int[np.ndarray, "R B"], max_dets: int) -> Float[np.ndarray, "R T"]:
    """Share of the annotations found by the `max_dets` best detections of each photo; NaN without annotations."""
    found = np.zeros((len(IOU_THRESHOLDS), weights.shape[1]), dtype=np.int64)
    kept = matches.rank < max_dets
    for threshold, hit in enumerate(matches.hit):
        found[threshold] = np.bincount(matches.photo[hit & kept], minlength=weights.shape[1])
    num_truths = weights @ matches.num_truths
    return np.where(num_truths > 0, (found @ weights.T) / np.maximum(num_truths, 1), np.nan).T


def _index(images: list[Any], annotations: Iterable[dict[str, Any]], categories: list[Any]) -> COCO:
    """pycocotools' own index, with ids from 1: it takes a match with id 0 for none."""
    coco = COCO()
    numbered = [annotation | {"id": number} for number, annotation in enumerate(annotations, 1)]
    coco.dataset = {"images": images, "annotations": numbered, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _detections(predictions: Iterable[dict[str, Any]], measure: Measure) -> Iterable[dict[str, Any]]:
    """Results as annotations; the area that decides small, medium and large is the mask's, or the box's for boxes."""
    for prediction in predictions:
        if measure == "segm":
            area = float(coco_mask.area(prediction["segmentation"]))
        else:
            area = prediction["bbox"][2] * prediction["bbox"][3]
        yield prediction | {"area": area, "iscrowd": 0}


def _gather(photos: list[dict[str, Any] | None]) -> Matches:
    """COCOeval's results of one category and area range, photo by photo, as one list by falling score."""
    num_truths = np.array([0 if each is None else np.count_nonzero(each["gtIgnore"] == 0) for each in photos])
    seen = [(number, each) for number, each in enumerate(photos) if each is not None and each["dtScores"]]
    if not seen:
        nothing, never = np.zeros(0, dtype=np.int64), np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)
        return Matches(nothing, nothing, never, never, num_truths)
    lengths = [len(each["dtScores"]) for _, each in seen]
    order = np.argsort(-np.concatenate([each["dtScores"] for _, each in seen]), kind="stable")
    ignored = np.concatenate([each["dtIgnore"] for _, each in seen], axis=1).astype(bool)
    matched = np.concatenate([each["dtMatches"] for _, each in seen], axis=1) > 0
    return Matches(
        photo=np.repeat([number for number, _ in seen], lengths)[order],
        rank=np.concatenate([np.arange(length) for length in lengths])[order],
        hit=(matched & ~ignored)[:, order],
        ignored=ignored[:, order],
        num_truths=num_truths,
    )
