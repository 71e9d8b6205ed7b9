"""Class-aware instance scores (section 5.2): clusters become classes, then COCO's protocol over the classes.

Where photos carry LVIS's `neg_category_ids`, they are labelled for some classes only, and LVIS's rules apply:
predictions of classes that a photo was not searched for are left out, those of classes that are not annotated
throughout are never wrong, and the limit of masks is that of a photo, not of a photo and class.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Int

from oapseg.evaluate.columns import Column
from oapseg.evaluate.instances import score_coco
from oapseg.evaluate.intervals import Measured
from oapseg.evaluate.matching import NO_CLASS, ranks
from oapseg.evaluate.overlaps import Measure, Overlaps
from oapseg.match.clusters import MAPPINGS, UNMAPPED


def fit_mapping(
    overlaps: Overlaps, categories: Iterable[int], *, rule: str, min_score: float, min_iou: float
) -> dict[int, int]:
    """The category of each cluster that has one (U2Seg).

    Each annotation but a crowd votes for its category with every prediction scored at least `min_score` whose box IoU
    with it is above `min_iou`.

    Errors: `ValueError` where the overlaps were found with a larger `least_iou`.
    """
    if min_iou < overlaps.least_iou:
        raise ValueError(f"least_iou {overlaps.least_iou} of the overlaps must be at most the votes' {min_iou}")
    classes = np.array(sorted(categories), dtype=np.int64)
    num_clusters = 1 + max(part.cluster.max(initial=-1) for part in overlaps.parts())
    votes = np.zeros((num_clusters, len(classes)), dtype=np.int64)
    for part in overlaps.parts():
        labels, boxes = _numbers(classes, part.label_category), part.pairs["box"]
        voting = (boxes.iou > min_iou) & (part.score[boxes.prediction] >= min_score)
        voting &= (labels[boxes.annotation] != NO_CLASS) & ~part.crowd[boxes.annotation]
        np.add.at(votes, (part.cluster[boxes.prediction[voting]], labels[boxes.annotation[voting]]), 1)
    mapping = MAPPINGS[rule](torch.from_numpy(votes)).tolist()
    return {cluster: int(classes[index]) for cluster, index in enumerate(mapping) if index != UNMAPPED}


def score_class_aware(
    overlaps: Overlaps,
    categories: Iterable[int],
    mapping: dict[int, int],
    resamples: Int[np.ndarray, "R B"],
    max_dets: int,
    *,
    frequencies: Mapping[int, str] | None = None,
) -> dict[str, Measured]:
    """Instance masks against annotations of their class, the mean over classes; masks without a class are dropped.

    Of categories with `frequencies` (LVIS: r, c, f) there are APr, APc and APf too, each the mean over its own. The
    interval is that of the photos; the mapping stays as it was fitted.
    """
    known = np.array(sorted(categories), dtype=np.int64)
    groups: dict[str, set[int]] = {}
    for number, category in enumerate(known.tolist()):
        if frequencies:
            groups.setdefault(frequencies[category], set()).add(number)
    federated = is_federated(overlaps)
    all_classes, all_labels, all_unjudged = Column(np.int32), Column(np.int32), Column(np.bool_)
    for part in overlaps.parts():
        classes = _classes(known, mapping, part.cluster)
        if federated:
            kept = _best_of_photo(part, classes, max_dets)
            searched = np.concatenate([part.absent, np.stack([part.label_photo, part.label_category], 1)])
            classes = np.where(kept & _among(part.photo, classes, searched, known), classes, NO_CLASS)
            all_unjudged.append(_among(part.photo, classes, part.partial, known))
        all_classes.append(classes)
        all_labels.append(_numbers(known, part.label_category))
    unjudged = all_unjudged.array() if federated else None
    return score_coco(
        overlaps, all_classes.array(), all_labels.array(), resamples, max_dets, unjudged=unjudged, groups=groups
    )


def confusion(
    overlaps: Overlaps,
    measure: Measure,
    categories: Iterable[int],
    mapping: dict[int, int],
    *,
    min_score: float = 0.0,
    min_iou: float = 0.5,
) -> Int[np.ndarray, "M N"]:
    """What annotations of each of M categories, by rising id, are taken for; crowds are left out.

    An annotation is taken for the class of the prediction scored at least `min_score` that overlaps it most, by
    `min_iou` or more; column M counts those whose prediction has no class, column M + 1 those without a prediction.
    """
    known = np.array(sorted(categories), dtype=np.int64)
    table = np.zeros((len(known), len(known) + 2), dtype=np.int64)
    for part in overlaps.parts():
        labels, pairs = _numbers(known, part.label_category), part.pairs[measure]
        chosen = np.flatnonzero((pairs.iou >= min_iou) & (part.score[pairs.prediction] >= min_score))
        chosen = chosen[np.argsort(pairs.iou[chosen], kind="stable")]
        taken = np.full(len(labels), len(known) + 1)
        classes = _classes(known, mapping, part.cluster)
        # Of several values for one annotation the last stays: that of the largest IoU.
        taken[pairs.annotation[chosen]] = np.where(classes == NO_CLASS, len(known), classes)[pairs.prediction[chosen]]
        counted = (labels != NO_CLASS) & ~part.crowd
        np.add.at(table, (labels[counted], taken[counted]), 1)
    return table


def is_federated(overlaps: Overlaps) -> bool:
    """Whether photos say which categories they were searched for (LVIS)."""
    return len(overlaps.absent) > 0 or len(overlaps.partial) > 0


def protocol(max_dets: int, vote_score: float, vote_iou: float, *, federated: bool = False) -> str:
    """How these scores are computed, in words; the mapping is said beside it."""
    name, of_photo = ("LVIS", "a photo") if federated else ("COCO", "a photo and class")
    return (
        f"{name}, IoU 0.50:0.95, at most {max_dets} masks {of_photo}, no score cut; mean over classes; masks scored at "
        f"least {vote_score:g} vote by boxes of IoU above {vote_iou:g}"
    )


def _classes(
    known: Int[np.ndarray, " M"], mapping: dict[int, int], cluster: Int[np.ndarray, " S"]
) -> Int[np.ndarray, " S"]:
    """The place of each cluster's category among the known ones; `NO_CLASS` for a cluster without one."""
    mapped = np.array(sorted(mapping), dtype=np.int64)
    values = _numbers(known, np.array([mapping[each] for each in mapped.tolist()], dtype=np.int64))
    place = _numbers(mapped, cluster)
    return np.append(values, NO_CLASS)[place]  # the last of them is where `NO_CLASS` points


def _numbers(known: Int[np.ndarray, " K"], ids: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Places of ids among known ones, which rise; `NO_CLASS` for others."""
    if len(known) == 0:
        return np.full(len(ids), NO_CLASS)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[place] == ids, place, NO_CLASS)


def _best_of_photo(overlaps: Overlaps, classes: Int[np.ndarray, " S"], max_dets: int) -> Bool[np.ndarray, " S"]:
    """The best predictions of each photo that have a class, ties in the order given."""
    kept = classes != NO_CLASS
    as_one = np.zeros(np.count_nonzero(kept), dtype=np.int64)
    kept[kept] = ranks(overlaps.photo[kept], as_one, overlaps.score[kept]) < max_dets
    return kept


def _among(
    photo: Int[np.ndarray, " S"],
    classes: Int[np.ndarray, " S"],
    listed: Int[np.ndarray, "N 2"],
    known: Int[np.ndarray, " K"],
) -> Bool[np.ndarray, " S"]:
    """Whether photo and class are among those listed by photo and category."""
    numbers = _numbers(known, listed[:, 1])
    keys = (listed[:, 0] * len(known) + numbers)[numbers != NO_CLASS]
    return (classes != NO_CLASS) & np.isin(photo.astype(np.int64) * len(known) + classes, keys)
