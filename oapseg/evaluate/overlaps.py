"""One look at each photo: which instance masks overlap which annotations, and by how much.

What stays of a photo is some tens of bytes a mask, whatever its size, and of many photos that is in files; every score
of instances, for any classes, any limit of masks and any resample of the photos, comes from that without the photo
being looked at again.

Beside the letters of `oapseg`: `L` annotations, `P` pairs of a prediction and an annotation of its photo.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask

from oapseg.evaluate import columns
from oapseg.evaluate.columns import Column, release

Measure = Literal["mask", "box"]

MEASURES: Final[tuple[Measure, ...]] = ("mask", "box")
INSTANCE: Final = "instance"  # `kind` of a prediction that stands for one thing
LEAST_IOU: Final = 0.5  # COCO matches no pair below
PHOTOS_AT_ONCE = 512  # in a part, at most


class Photo(NamedTuple):
    """A photo as COCO has it: its entry among the images, its annotations, and the results predicted for it."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


class Pairs(NamedTuple):
    """Overlaps by masks, or by boxes; a pair with a crowd has the share of the prediction that the crowd covers."""

    area: Float[np.ndarray, " S"]  # of the predictions, px²
    prediction: Int[np.ndarray, " P"]
    annotation: Int[np.ndarray, " P"]
    iou: Float[np.ndarray, " P"]  # at least `least_iou`
    best: Float[np.ndarray, " L"]  # the largest IoU that any prediction has with an annotation


class Overlaps(NamedTuple):
    """Predictions and annotations of B photos and their overlaps; those of one photo are in the order given.

    What works through all of it does so by `parts`: arrays of many photos are in files.
    """

    image_ids: Int[np.ndarray, " B"]  # rising; photos are counted in this order
    photo: Int[np.ndarray, " S"]
    score: Float[np.ndarray, " S"]
    cluster: Int[np.ndarray, " S"]
    label_photo: Int[np.ndarray, " L"]
    label_category: Int[np.ndarray, " L"]
    label_area: Float[np.ndarray, " L"]  # px², as annotated
    crowd: Bool[np.ndarray, " L"]
    absent: Int[np.ndarray, "M 2"]  # photo and category that is known to be missing in it (LVIS)
    partial: Int[np.ndarray, "N 2"]  # photo and category that is not annotated throughout (LVIS)
    pairs: dict[Measure, Pairs]  # boxes alone where any annotation or prediction has no mask
    least_iou: float
    cuts: dict[str, Int[np.ndarray, " parts+1"]]  # where each part begins among predictions, labels, ... and pairs

    def parts(self) -> "Iterator[Overlaps]":
        """What there is of some photos, then of the next.

        Photos are counted as in the whole, predictions and annotations within the part.
        """
        for number in range(len(self.cuts["labels"]) - 1):
            yield self._part(number)
            release(self.photo, self.score, self.cluster, self.absent, self.partial)
            release(self.label_photo, self.label_category, self.label_area, self.crowd)
            for pairs in self.pairs.values():
                release(*pairs)

    def _part(self, number: int) -> "Overlaps":
        of = {name: slice(*cuts[number : number + 2].tolist()) for name, cuts in self.cuts.items()}
        predictions, labels = of["predictions"], of["labels"]
        pairs = {
            measure: Pairs(
                whole.area[predictions],
                whole.prediction[of[measure]] - np.int32(predictions.start),
                whole.annotation[of[measure]] - np.int32(labels.start),
                whole.iou[of[measure]],
                whole.best[labels],
            )
            for measure, whole in self.pairs.items()
        }
        return Overlaps(
            image_ids=self.image_ids,
            photo=self.photo[predictions],
            score=self.score[predictions],
            cluster=self.cluster[predictions],
            label_photo=self.label_photo[labels],
            label_category=self.label_category[labels],
            label_area=self.label_area[labels],
            crowd=self.crowd[labels],
            absent=self.absent[of["absent"]],
            partial=self.partial[of["partial"]],
            pairs=pairs,
            least_iou=self.least_iou,
            cuts={name: np.array([0, each.stop - each.start]) for name, each in of.items()},
        )


def by_photo(truth: dict[str, Any], predictions: Iterable[dict[str, Any]]) -> Iterator[Photo]:
    """A COCO data set and COCO results photo by photo; results of other photos are left out."""
    annotations: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for members, groups in ((truth["annotations"], annotations), (predictions, found)):
        for each in members:
            if each["image_id"] in groups:
                groups[each["image_id"]].append(each)
    for image in truth["images"]:
        yield Photo(image, annotations[image["id"]], found[image["id"]])


def find_overlaps(photos: Iterable[Photo], least_iou: float = LEAST_IOU) -> Overlaps:
    """Look at each photo once; one photo is in memory at a time, and what is kept of some hundreds.

    Semantic masks are left out: they join all things of a kind, which is no instance. Pairs below `least_iou`, or 0.5
    where that is less, are forgotten.

    Errors: `ValueError` where an image comes twice, a score is no number, or masks of one photo differ in size.
    """
    least_iou = min(least_iou, LEAST_IOU)
    whole = _Whole()
    for looks in _some_at_once(_look(photo, least_iou) for photo in photos):
        whole.append(_joined(looks, least_iou))
    return whole.overlaps(least_iou)


class _Look(NamedTuple):
    """What is kept of one photo; pairs count within it."""

    image_id: int
    score: Float[np.ndarray, " S"]
    cluster: Int[np.ndarray, " S"]
    label_category: Int[np.ndarray, " L"]
    label_area: Float[np.ndarray, " L"]
    crowd: Bool[np.ndarray, " L"]
    absent: Int[np.ndarray, " M"]
    partial: Int[np.ndarray, " N"]
    pairs: dict[Measure, Pairs]


def _look(photo: Photo, least_iou: float) -> _Look:
    image, annotations = photo.image, photo.annotations
    predictions = [each for each in photo.predictions if each.get("kind", INSTANCE) == INSTANCE]
    score = np.array([each["score"] for each in predictions], dtype=np.float64)
    if not np.isfinite(score).all():
        raise ValueError(f"image {image['id']}: scores must be finite numbers")
    crowd = np.array([bool(each.get("iscrowd", 0)) for each in annotations], dtype=np.bool_)
    boxes, label_boxes = _boxes(predictions), _boxes(annotations)
    pairs: dict[Measure, Pairs] = {"box": _pairs(_iou(boxes, label_boxes, crowd), boxes[:, 2] * boxes[:, 3], least_iou)}
    if all("segmentation" in each for each in (*annotations, *predictions)):
        masks, label_masks = ([each["segmentation"] for each in some] for some in (predictions, annotations))
        sizes = {tuple(each["size"]) for each in (*masks, *label_masks)}
        if len(sizes) > 1:
            said = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
            raise ValueError(f"image {image['id']}: masks of different heights and widths: {said}")
        area = np.asarray(coco_mask.area(masks), dtype=np.float64)
        pairs["mask"] = _pairs(_iou(masks, label_masks, crowd), area, least_iou)
    return _Look(
        image_id=image["id"],
        score=score,
        cluster=np.array([each["category_id"] for each in predictions], dtype=np.int32),
        label_category=np.array([each["category_id"] for each in annotations], dtype=np.int64),
        label_area=np.array([each["area"] for each in annotations], dtype=np.float64),
        crowd=crowd,
        absent=np.array(image.get("neg_category_ids", []), dtype=np.int64),
        partial=np.array(image.get("not_exhaustive_category_ids", []), dtype=np.int64),
        pairs=pairs,
    )


def _pairs(iou: Float[np.ndarray, "S L"], area: Float[np.ndarray, " S"], least_iou: float) -> Pairs:
    prediction, annotation = (index.astype(np.int32) for index in np.nonzero(iou >= least_iou))
    return Pairs(area, prediction, annotation, iou[prediction, annotation], iou.max(0, initial=0.0))


def _some_at_once(looks: Iterable[_Look]) -> Iterator[list[_Look]]:
    """By rising id within a list; one list at least."""
    part: list[_Look] = []
    masks = 0
    for look in looks:
        if part and (len(part) >= PHOTOS_AT_ONCE or masks + len(look.score) > columns.HELD):
            yield sorted(part, key=lambda each: each.image_id)
            part, masks = [], 0
        part.append(look)
        masks += len(look.score)
    yield sorted(part, key=lambda each: each.image_id)


def _joined(looks: list[_Look], least_iou: float) -> Overlaps:
    """All there is of some photos, counted from 0."""

    def joined(name: str, dtype: Any) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype=dtype), *(getattr(each, name) for each in looks)])

    def photo_of(name: str) -> np.ndarray:
        return np.repeat(np.arange(len(looks), dtype=np.int32), [len(getattr(each, name)) for each in looks])

    return Overlaps(
        image_ids=np.array([each.image_id for each in looks], dtype=np.int64),
        photo=photo_of("score"),
        score=joined("score", np.float64),
        cluster=joined("cluster", np.int32),
        label_photo=photo_of("crowd"),
        label_category=joined("label_category", np.int64),
        label_area=joined("label_area", np.float64),
        crowd=joined("crowd", np.bool_),
        absent=np.stack([photo_of("absent"), joined("absent", np.int64)], axis=1),
        partial=np.stack([photo_of("partial"), joined("partial", np.int64)], axis=1),
        pairs={name: _joined_pairs(looks, name) for name in MEASURES if all(name in each.pairs for each in looks)},
        least_iou=least_iou,
        cuts={},
    )


def _joined_pairs(looks: list[_Look], measure: Measure) -> Pairs:
    """Pairs of all photos, counted over all of them."""
    predictions = np.cumsum([0, *(len(each.score) for each in looks)], dtype=np.int32)
    annotations = np.cumsum([0, *(len(each.crowd) for each in looks)], dtype=np.int32)
    none = np.zeros(0, dtype=np.int32)
    parts = [each.pairs[measure] for each in looks]
    return Pairs(
        area=np.concatenate([np.zeros(0), *(each.area for each in parts)]),
        prediction=np.concatenate([none, *(each.prediction + n for each, n in zip(parts, predictions, strict=False))]),
        annotation=np.concatenate([none, *(each.annotation + n for each, n in zip(parts, annotations, strict=False))]),
        iou=np.concatenate([np.zeros(0), *(each.iou for each in parts)]),
        best=np.concatenate([np.zeros(0), *(each.best for each in parts)]),
    )


class _Whole:
    """Parts, each counted from 0, one behind another."""

    def __init__(self) -> None:
        self.columns: dict[str, Column] = {}
        self.lengths: dict[str, list[int]] = {}  # of each part
        self.measures = list(MEASURES)

    def append(self, part: Overlaps) -> None:
        photos, predictions, labels = (
            np.int32(sum(self.lengths.get(name, []))) for name in ("photos", "predictions", "labels")
        )
        self.measures = [each for each in self.measures if each in part.pairs]
        arrays = {
            "photo": part.photo + photos,
            "label_photo": part.label_photo + photos,
            "absent": part.absent + np.array([photos, 0]),
            "partial": part.partial + np.array([photos, 0]),
            **{name: getattr(part, name) for name in ("image_ids", "score", "cluster", "crowd")},
            **{name: getattr(part, name) for name in ("label_category", "label_area")},
        }
        lengths = {"photos": len(part.image_ids), "predictions": len(part.score), "labels": len(part.crowd)}
        lengths |= {"absent": len(part.absent), "partial": len(part.partial)}
        for measure in self.measures:
            pairs = part.pairs[measure]
            pairs = pairs._replace(prediction=pairs.prediction + predictions, annotation=pairs.annotation + labels)
            arrays |= {f"{measure}.{name}": each for name, each in pairs._asdict().items()}
            lengths[measure] = len(pairs.iou)
        for name, rows in arrays.items():
            self.columns.setdefault(name, Column(rows.dtype, *rows.shape[1:])).append(rows)
        for name, length in lengths.items():
            self.lengths.setdefault(name, []).append(length)

    def overlaps(self, least_iou: float) -> Overlaps:
        """Photos counted by rising id. Errors: `ValueError` where an image came twice."""
        came = self.columns.pop("image_ids").array()
        order = np.argsort(came, kind="stable")
        image_ids = came[order]
        twice = image_ids[1:][np.diff(image_ids) == 0]
        if twice.size:
            raise ValueError(f"image {twice[0]} comes more than once; every photo is scored once")
        number = np.empty(len(order), dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        arrays = {name: column.array() for name, column in self.columns.items()}
        if (np.diff(order) != 1).any():
            arrays |= {name: _renumbered(arrays[name], number) for name in ("photo", "label_photo")}
            arrays |= {name: _renumbered(arrays[name], number) for name in ("absent", "partial")}
        kept = [*self.measures, "predictions", "labels", "absent", "partial"]
        return Overlaps(
            image_ids=image_ids,
            **{name: each for name, each in arrays.items() if "." not in name},
            pairs={
                measure: Pairs(*(arrays[f"{measure}.{name}"] for name in Pairs._fields)) for measure in self.measures
            },
            least_iou=least_iou,
            cuts={name: np.cumsum([0, *self.lengths[name]]) for name in kept},
        )


def _renumbered(rows: Int[np.ndarray, "N ..."], number: Int[np.ndarray, " B"]) -> Int[np.ndarray, "N ..."]:
    """Rows that are photos, or begin with one, with the photo's number."""
    column = Column(rows.dtype, *rows.shape[1:])
    for first in range(0, len(rows), columns.HELD):
        some = rows[first : first + columns.HELD].copy()
        photo = some if some.ndim == 1 else some[:, 0]
        photo[:] = number[photo]
        column.append(some)
        release(rows)
    return column.array()


def _iou(found: Any, labelled: Any, crowd: Bool[np.ndarray, " L"]) -> Float[np.ndarray, "S L"]:
    """pycocotools' overlap of run lengths, or of boxes, also where there are none."""
    if len(found) == 0 or len(labelled) == 0:
        return np.zeros((len(found), len(labelled)))
    return np.asarray(coco_mask.iou(found, labelled, crowd.tolist()))


def _boxes(annotations: list[dict[str, Any]]) -> Float[np.ndarray, "S 4"]:
    return np.array([each["bbox"] for each in annotations], dtype=np.float64).reshape(-1, 4)
