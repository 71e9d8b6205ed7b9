"""Panoptic quality: equal to its definition, steady under renumbering, and merged as Panoptic FPN merges."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from panoptic_oracle import Labelling, merged, panoptic_quality

from oapseg.evaluate.counts import VOID
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.merge import merge
from oapseg.evaluate.panoptic import (
    Classes,
    PanopticMapping,
    QualityCounts,
    Shared,
    classes_of,
    fit_mapping,
    quality_counts,
    score_panoptic,
    shared_segments,
)
from oapseg.masks import mask_to_rle

H, W = 24, 32
THINGS, STUFF = (1, 2, 5), (7, 8, 11)
CATEGORIES = [{"id": n, "name": str(n), "isthing": int(n in THINGS)} for n in (*THINGS, *STUFF)]
CLASSES = classes_of(CATEGORIES)
ITSELF = PanopticMapping({n: n for n in THINGS}, {n: n for n in STUFF})
STUFF_PX = 20


def rle(mask: np.ndarray) -> dict[str, Any]:
    return mask_to_rle(torch.from_numpy(mask.copy()))


def rectangle(rng: np.random.Generator, most: int = 16) -> np.ndarray:
    mask = np.zeros((H, W), dtype=bool)
    y, x = rng.integers(0, H - 3), rng.integers(0, W - 3)
    mask[y : y + rng.integers(2, most), x : x + rng.integers(2, most)] = True
    return mask


def random_truth(rng: np.random.Generator) -> Labelling:
    """Things over stuff over void; sometimes nothing at all; at most one crowd and one stuff segment a category."""
    segments = np.full((H, W), VOID)
    categories: list[int] = []
    crowds: list[bool] = []
    if rng.random() < 0.1:
        return Labelling(segments, [], [])
    for category in rng.permutation(STUFF)[: rng.integers(0, 4)]:
        segments[rectangle(rng, 28)] = len(categories)
        categories.append(int(category))
        crowds.append(False)
    crowded: set[int] = set()
    for _ in range(rng.integers(0, 6)):
        category = int(rng.choice(THINGS))
        crowd = category not in crowded and rng.random() < 0.3
        crowded |= {category} if crowd else set()
        segments[rectangle(rng)] = len(categories)
        categories.append(category)
        crowds.append(bool(crowd))
    segments[rectangle(rng)] = VOID
    return compact(Labelling(segments, categories, crowds))


def compact(labelling: Labelling) -> Labelling:
    """Without segments that others hide."""
    kept = [n for n in range(len(labelling.categories)) if (labelling.segments == n).any()]
    segments = np.full_like(labelling.segments, VOID)
    for new, old in enumerate(kept):
        segments[labelling.segments == old] = new
    return Labelling(segments, [labelling.categories[n] for n in kept], [labelling.crowds[n] for n in kept])


def labels(truth: Labelling) -> list[dict[str, Any]]:
    return [
        {"id": n + 1, "category_id": category, "iscrowd": int(crowd), "segmentation": rle(truth.segments == n)}
        for n, (category, crowd) in enumerate(zip(truth.categories, truth.crowds, strict=True))
    ]


def random_results(rng: np.random.Generator, truth: Labelling) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Near copies of true segments, duplicates, overlapping strays, and disjoint regions; sometimes nothing."""
    masks: list[np.ndarray] = []
    results: list[dict[str, Any]] = []

    def add(mask: np.ndarray, category: int, kind: str) -> None:
        if mask.any():
            masks.append(mask)
            results.append({"category_id": category, "score": float(rng.integers(2, 11)) / 10, "kind": kind})

    if rng.random() < 0.1:
        return results, masks
    for number, category in enumerate(truth.categories):
        if category in THINGS:
            near = np.roll(truth.segments == number, tuple(rng.integers(-1, 2, 2)), (0, 1))
            for _ in range(rng.integers(0, 3)):
                add(near, category if rng.random() < 0.8 else int(rng.choice(THINGS)), "instance")
    for _ in range(rng.integers(0, 3)):
        add(rectangle(rng), int(rng.choice(THINGS)), "instance")
    regions = np.full((H, W), VOID)
    for number, category in enumerate(truth.categories):
        if category in STUFF:
            regions[np.roll(truth.segments == number, tuple(rng.integers(-2, 3, 2)), (0, 1))] = category
    regions[rectangle(rng)] = int(rng.choice(STUFF))
    for category in STUFF:
        add(regions == category, category, "region")
    return results, masks


def with_masks(results: list[dict[str, Any]], masks: list[np.ndarray]) -> list[dict[str, Any]]:
    return [result | {"segmentation": rle(mask)} for result, mask in zip(results, masks, strict=True)]


def look(truth: Labelling, results: list[dict[str, Any]]) -> Shared:
    return shared_segments(labels(truth), merge(results, (H, W), min_score=0.5, max_overlap=0.5))


def case(seed: int, num_photos: int = 3) -> tuple[list[Shared], list[tuple[Labelling, Labelling]]]:
    """What the code sees of random photos, and the same photos for the oracle."""
    rng = np.random.default_rng(seed)
    seen, pairs = [], []
    for _ in range(num_photos):
        truth = random_truth(rng)
        results, masks = random_results(rng, truth)
        seen.append(look(truth, with_masks(results, masks)))
        pairs.append((truth, merged(results, masks, (H, W), STUFF_PX)))
    return seen, pairs


def score(
    photos: list[Shared], mapping: PanopticMapping = ITSELF, classes: Classes = CLASSES, stuff_px: int = STUFF_PX
) -> dict[str, float]:
    counts = quality_counts(photos, mapping, classes, min_stuff_px=stuff_px)
    measured = score_panoptic(counts, classes, np.zeros((0, len(photos)), dtype=np.int64))
    return {name: each.value for name, each in measured.items()}


def test_quality_equals_its_definition_on_a_hundred_random_cases() -> None:
    crowds = excused = 0
    for seed in range(100):
        seen, pairs = case(seed)
        expected = panoptic_quality(pairs, {c["id"]: bool(c["isthing"]) for c in CATEGORIES})
        flat = {f"{name}{suffix}": value for suffix, group in expected.items() for name, value in group.items()}
        assert score(seen) == pytest.approx(flat, abs=1e-9, nan_ok=True), seed
        crowds += sum(any(truth.crowds) for truth, _ in pairs)
        excused += sum(not truth.categories for truth, _ in pairs)
    assert crowds > 30, "the cases hold crowds"
    assert excused > 10, "the cases hold photos without a label"


@pytest.fixture
def _double() -> Iterator[None]:
    """Floats of 64 bits by default, which torchmetrics divides whole numbers in."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_double")
def test_quality_equals_torchmetrics_on_a_hundred_random_cases() -> None:
    """Without crowds, which torchmetrics does not know, and without void in the predictions.

    Void that is predicted it takes out of the union and excuses true segments below it; panopticapi does neither.
    """
    detection = pytest.importorskip("torchmetrics.detection", reason="torchmetrics is not installed")
    unlabelled = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        theirs = detection.PanopticQuality(
            things=set(THINGS), stuffs=set(STUFF), allow_unknown_preds_category=False, return_sq_and_rq=True
        )
        seen = []
        for _ in range(1 + seed % 2):
            truth = random_truth(rng)
            truth = Labelling(truth.segments, truth.categories, [False] * len(truth.categories))
            results, masks = random_results(rng, truth)
            regions = [mask for result, mask in zip(results, masks, strict=True) if result["kind"] == "region"]
            bare = ~np.any([np.zeros((H, W), dtype=bool), *regions], axis=0)
            results.append({"category_id": 7, "score": 0.1, "kind": "region"})
            masks.append(bare)
            seen.append(look(truth, with_masks(results, masks)))
            theirs.update(coloured(merged(results, masks, (H, W), 0)), coloured(truth))
            unlabelled += not truth.categories
        ours = score(seen, stuff_px=0)
        expected = dict(zip(("PQ", "SQ", "RQ"), theirs.compute().tolist(), strict=True))
        assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-9, nan_ok=True), seed
    assert unlabelled > 5, "the cases hold photos without a label"


def coloured(labelling: Labelling) -> torch.Tensor:
    """Category and number of the segment at each pixel, of one photo; void is a category that there is not."""
    categories = np.array([*labelling.categories, VOID])[labelling.segments]
    return torch.from_numpy(np.stack([categories, labelling.segments], -1))[None]


def whole_photo() -> Labelling:
    """Three things, one of them a crowd, on two kinds of stuff, and a strip of void."""
    segments = np.zeros((H, W), dtype=int)
    segments[12:] = 1
    segments[2:9, 3:10] = 2
    segments[2:9, 20:28] = 3
    segments[14:20, 4:20] = 4
    segments[:, 31] = VOID
    return Labelling(segments, [7, 8, 1, 1, 2], [False, False, False, False, True])


def perfect(truth: Labelling) -> list[dict[str, Any]]:
    return [
        {
            "category_id": category,
            "score": 0.9,
            "kind": "instance" if category in THINGS else "region",
            "segmentation": rle(truth.segments == number),
        }
        for number, category in enumerate(truth.categories)
    ]


def test_a_perfect_prediction_scores_one() -> None:
    scores = score([look(whole_photo(), perfect(whole_photo()))])
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


def test_a_missing_mask_lowers_recall_and_is_counted_once() -> None:
    truth = whole_photo()
    counts = quality_counts([look(truth, perfect(truth)[:3])], ITSELF, CLASSES, min_stuff_px=1)
    assert counts.fn.sum() == 1
    assert counts.fp.sum() == 0
    assert score([look(truth, perfect(truth)[:3])])["RQ_things"] == pytest.approx(2 / 3)


def test_a_photo_without_predictions_scores_zero() -> None:
    scores = score([look(whole_photo(), [])])
    assert scores == pytest.approx(dict.fromkeys(scores, 0.0))


def test_photos_without_labels_cannot_be_scored() -> None:
    nothing = Labelling(np.full((H, W), VOID), [], [])
    assert all(np.isnan(value) for value in score([look(nothing, perfect(whole_photo()))]).values())


def test_several_crowds_of_a_class_count_as_one() -> None:
    segments = np.full((H, W), VOID)
    segments[:, :16], segments[:, 16:20], segments[:, 20:] = 0, 1, 2
    mask = np.zeros((H, W), dtype=bool)
    mask[:, 13:24] = True  # 3 columns on one crowd, 4 on another, 4 on stuff
    result = {"category_id": 1, "score": 1.0, "kind": "instance", "segmentation": rle(mask)}
    photo = look(Labelling(segments, [1, 1, 7], [True, True, False]), [result])
    assert quality_counts([photo], ITSELF, CLASSES, min_stuff_px=1).fp.sum() == 0


def test_a_mask_just_half_on_void_is_wrong() -> None:
    segments = np.full((H, W), VOID)
    segments[:, 16:] = 0
    results = []
    for left in (12, 11):  # 4 or 5 of 8 columns on void
        mask = np.zeros((H, W), dtype=bool)
        mask[:, left : left + 8] = True
        results.append({"category_id": 1, "score": 1.0, "kind": "instance", "segmentation": rle(mask)})
    wrong = [
        int(quality_counts([look(Labelling(segments, [7], [False]), [each])], ITSELF, CLASSES, min_stuff_px=1).fp.sum())
        for each in results
    ]
    assert wrong == [1, 0]


@pytest.mark.parametrize("rule", ["votes", "hungarian", "hungarian+votes"])
def test_other_numbers_for_the_clusters_change_nothing(rule: str) -> None:
    rng = np.random.default_rng(3)
    truths = [random_truth(rng) for _ in range(20)]
    results = [with_masks(*random_results(rng, truth)) for truth in truths]
    renumbered = dict(enumerate(rng.permutation(40).tolist()))
    before = [look(truth, each) for truth, each in zip(truths, results, strict=True)]
    after = [
        look(truth, [result | {"category_id": renumbered[result["category_id"]]} for result in each])
        for truth, each in zip(truths, results, strict=True)
    ]
    scores = [score(photos, fit_mapping(photos, CLASSES, rule)) for photos in (before, after)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)
    assert scores[0]["PQ"] > 0.1


def test_clusters_are_fitted_by_the_pixels_of_their_kind() -> None:
    truth = whole_photo()
    renamed = [each | {"category_id": {7: 0, 8: 1, 1: 0, 2: 2}[each["category_id"]]} for each in perfect(truth)]
    mapping = fit_mapping([look(truth, renamed)], CLASSES, "hungarian+votes")
    assert mapping == PanopticMapping({0: 1, 2: 2}, {0: 7, 1: 8})
    assert score([look(truth, renamed)], mapping)["PQ"] == pytest.approx(1.0)


def test_kept_apart_an_instance_mask_is_no_stuff_and_a_region_no_thing() -> None:
    truth = whole_photo()
    swapped = [each | {"kind": "region" if each["kind"] == "instance" else "instance"} for each in perfect(truth)]
    apart = fit_mapping([look(truth, swapped)], CLASSES, "votes")
    free = fit_mapping([look(truth, swapped)], CLASSES, "votes", apart=False)
    assert apart == PanopticMapping({}, {})
    assert free == PanopticMapping({7: 7, 8: 8}, {1: 1, 2: 2})


def test_an_instance_mask_taken_for_stuff_joins_that_stuff_and_a_region_taken_for_a_thing_is_void() -> None:
    truth = whole_photo()
    results = perfect(truth)
    halves = [np.zeros((H, W), dtype=bool) for _ in range(2)]
    halves[0][:, :16], halves[1][:, 16:] = True, True
    sky = truth.segments == 0
    results[0] = results[0] | {"segmentation": rle(sky & halves[0])}
    results.append({"category_id": 30, "score": 0.9, "kind": "instance", "segmentation": rle(sky & halves[1])})
    joined = ITSELF._replace(instances={**ITSELF.instances, 30: 7})
    assert score([look(truth, results)], joined)["PQ_stuff"] == pytest.approx(1.0)
    counts = quality_counts(
        [look(truth, perfect(truth))], ITSELF._replace(regions={7: 1, 8: 8}), CLASSES, min_stuff_px=1
    )
    assert (counts.fp.sum(), counts.fn.sum()) == (0, 1)


def test_clusters_without_a_class_are_void() -> None:
    truth = whole_photo()
    counts = quality_counts([look(truth, perfect(truth))], PanopticMapping({}, {}), CLASSES, min_stuff_px=1)
    assert (counts.tp.sum(), counts.fp.sum(), counts.fn.sum()) == (0, 0, 4)


def test_a_map_of_classes_joins_stuff_on_both_sides() -> None:
    truth = whole_photo()
    classes = Classes({1: 1, 2: 2, 5: 5, 7: 90, 8: 90, 11: 90}, frozenset(THINGS))
    photo = look(truth, perfect(truth))
    counts = quality_counts([photo], PanopticMapping(ITSELF.instances, {7: 90, 8: 90}), classes, min_stuff_px=1)
    assert counts.tp[:, classes.order().index(90)].tolist() == [1]
    assert score([photo], PanopticMapping(ITSELF.instances, {7: 90, 8: 90}), classes)["PQ"] == pytest.approx(1.0)


def test_a_category_without_a_class_is_void_in_the_truth() -> None:
    truth = whole_photo()
    things_alone = Classes({n: n for n in THINGS}, frozenset(THINGS))
    stray = {"category_id": 1, "score": 1.0, "kind": "instance", "segmentation": rle(truth.segments == 0)}
    scores = score([look(truth, [*perfect(truth), stray])], classes=things_alone)
    assert scores["PQ"] == 1.0
    assert np.isnan(scores["PQ_stuff"])


def test_small_stuff_is_void() -> None:
    truth = whole_photo()
    largest = int((truth.segments == 0).sum())
    stuff_px = max(largest, int((truth.segments == 1).sum())) + 1
    counts = quality_counts([look(truth, perfect(truth))], ITSELF, CLASSES, min_stuff_px=stuff_px)
    assert (counts.fp.sum(), counts.fn.sum()) == (0, 2)


def square(x: int, side: int, score: float, cluster: int = 1) -> dict[str, Any]:
    mask = np.zeros((H, W), dtype=bool)
    mask[:side, x : x + side] = True
    return {"category_id": cluster, "score": score, "kind": "instance", "segmentation": rle(mask)}


def test_the_better_mask_takes_the_pixels_that_two_share() -> None:
    segments, clusters, instance = merge(
        [square(0, 8, 0.6, 1), square(4, 8, 0.9, 2)], (H, W), min_score=0.5, max_overlap=0.5
    )
    assert clusters.tolist() == [2, 1]
    assert instance.all()
    assert [int((segments == n).sum()) for n in (0, 1)] == [64, 32]


def test_a_mask_that_better_ones_cover_more_than_half_is_dropped() -> None:
    masks = [square(0, 8, 0.9), square(3, 8, 0.8), square(0, 8, 0.7)]
    assert len(merge(masks, (H, W), min_score=0.5, max_overlap=0.5).clusters) == 1


def test_a_mask_below_the_score_is_not_merged() -> None:
    assert len(merge([square(0, 8, 0.49)], (H, W), min_score=0.5, max_overlap=0.5).clusters) == 0


def test_a_mask_of_another_size_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"mask of image_id 4, category_id 1: 24 x 32 px in a photo of 30 x 32"):
        merge([square(0, 8, 0.9) | {"image_id": 4}], (30, 32), min_score=0.5, max_overlap=0.5)


def test_a_photo_drawn_twice_counts_twice() -> None:
    seen, _ = case(5, num_photos=6)
    counts = quality_counts(seen, ITSELF, CLASSES, min_stuff_px=STUFF_PX)
    weights = np.array([[2, 0, 1, 0, 3, 0]])
    again = QualityCounts(*(np.repeat(each, weights[0], axis=0) for each in counts))
    resampled = score_panoptic(counts, CLASSES, weights)
    for name, each in score_panoptic(again, CLASSES, np.zeros((0, 6), dtype=np.int64)).items():
        np.testing.assert_allclose(resampled[name].resampled, [each.value], atol=1e-12)


def test_the_interval_holds_the_score() -> None:
    seen, _ = case(9, num_photos=40)
    counts = quality_counts(seen, ITSELF, CLASSES, min_stuff_px=STUFF_PX)
    pq = score_panoptic(counts, CLASSES, resample_photos(40, 200, seed=1))["PQ"]
    low, high = pq.interval() or (np.nan, np.nan)
    assert low < pq.value < high
