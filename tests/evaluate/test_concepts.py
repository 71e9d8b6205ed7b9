"""Regions named by their features: k-means with the assignment, neighbours as scikit-learn has them, a CLIP's names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import tiny_tower, tiny_towers
from sklearn.neighbors import KNeighborsClassifier

from oapseg import storage
from oapseg.evaluate.benchmark import Benchmark, own_benchmark
from oapseg.evaluate.concepts import (
    Concepts,
    add_concepts,
    named_by_neighbours,
    region_classes,
    score_kmeans,
    score_neighbours,
)
from oapseg.evaluate.counts import VOID
from oapseg.evaluate.predictions import Maker, PhotoResults, write_predictions
from oapseg.evaluate.runs import Scored, seen_of
from oapseg.evaluate.scores import Group
from oapseg.evaluate.semantic import Confusion
from oapseg.masks import mask_to_rle, rle_to_mask
from oapseg.match.features import Features
from oapseg.params import EvaluateParams, SampleParams, SetParams, Source, default_params_path, load_params
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Sample
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set

CLASSES = (2, 5, 9)
NO_RESAMPLES = np.zeros((0, 4), dtype=np.int64)
OWN = Maker("own", "votes", checkpoint="c0ffee")


def concepts(seed: int, noise: float = 0.0) -> Concepts:
    """Four photos of three regions each; a region lies in one class, whose direction its feature has."""
    rng = np.random.default_rng(seed)
    photos, features = [], []
    for photo in range(4):
        classes = rng.permutation(CLASSES)
        photos.append(Confusion(np.arange(3) + 3 * photo, classes, rng.integers(10, 99, 3)))
        features += [np.eye(3)[CLASSES.index(each)] + noise * rng.normal(size=3) for each in classes]
    return Concepts(photos, np.arange(12), in_parts(np.array(features)).unit())


def in_parts(features: np.ndarray) -> Features:
    parts = np.array_split(features, 3)
    return Features([len(part) for part in parts], parts.__getitem__)


def test_features_that_tell_the_classes_score_all_by_either_way() -> None:
    found, known = concepts(0, 0.05), concepts(1, 0.05)
    means, deviations = score_kmeans(found, found, CLASSES, NO_RESAMPLES, 10, 0)
    assert (means["mIoU"].value, means["accuracy"].value) == (1.0, 1.0)
    assert deviations == dict.fromkeys(means, 0.0)
    for count in (1, 5):
        assert score_neighbours(found, known, CLASSES, NO_RESAMPLES, count)["mIoU"].value == 1.0


def test_runs_that_differ_have_a_deviation_and_their_mean() -> None:
    found = concepts(0, 2.0)
    single = [score_kmeans(found, found, CLASSES, NO_RESAMPLES, 1, seed)[0]["mIoU"].value for seed in range(10)]
    means, deviations = score_kmeans(found, found, CLASSES, NO_RESAMPLES, 10, 0)
    assert means["mIoU"].value == pytest.approx(np.mean(single), abs=1e-12)
    assert deviations["mIoU"] == pytest.approx(np.std(single, ddof=1), abs=1e-12)
    assert deviations["mIoU"] > 0


def test_neighbours_equal_scikit_learns_on_random_cases() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        features, known = (rng.normal(size=(count, 8)) for count in (30, 40))
        features, known = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, known))
        classes = rng.integers(0, 4, 40)
        nearest = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(known, classes)
        assert np.array_equal(
            named_by_neighbours(in_parts(features), in_parts(known), classes, 1), nearest.predict(features)
        )
        votes = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(known, classes).kneighbors(features)[1]
        counts = np.stack([(classes[votes] == each).sum(1) for each in range(4)], axis=1)
        ours = named_by_neighbours(in_parts(features), in_parts(known), classes, 5)
        clear = np.sort(counts, axis=1)[:, -1] > np.sort(counts, axis=1)[:, -2]
        assert np.array_equal(ours[clear], counts.argmax(1)[clear])
        assert (counts[np.arange(30), ours] == counts.max(1)).all()


def test_of_classes_with_equal_votes_the_nearer_one_wins() -> None:
    known = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    assert named_by_neighbours(in_parts(known[:1]), in_parts(known), np.array([3, 1, 1, 3]), 4).tolist() == [3]
    assert named_by_neighbours(in_parts(known[:1]), in_parts(known), np.array([3, 1, 1, 3]), 3).tolist() == [1]


def test_a_known_region_has_the_class_it_covers_most_and_none_without_labels() -> None:
    photos = [Confusion(np.array([0, 0, 1, VOID]), np.array([2, 9, 77, 5]), np.array([5, 6, 9, 9]))]
    some = Concepts(photos, np.arange(2), in_parts(np.eye(2)))
    assert region_classes(some, CLASSES).tolist() == [9, VOID]
    assert named_by_neighbours(in_parts(np.eye(2)), in_parts(np.eye(2)), region_classes(some, CLASSES), 1).tolist() == [
        9,
        9,
    ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("sample")
    make_sample(str(folder / "sample"), SampleParams(train=1, val=6, size_px=96), seed=0, workers=1)
    listed = list_set(SetParams(root=str(folder / "sample"), sources=[Source(kind="coco", path=".", split="val")]))
    return write_set(listed, str(folder / "val"), samples_per_shard=4, max_broken=0.0, max_pixels=10**6, workers=1)


@pytest.fixture(scope="module")
def params() -> EvaluateParams:
    chosen = {"bootstrap": 5, "concept_runs": 2, "concept_neighbours": [1]}
    return load_params(default_params_path()).evaluate.model_copy(update=chosen)


@pytest.fixture
def scored(manifest: Manifest, params: EvaluateParams, tmp_path: Path) -> Callable[[bool], Scored]:
    """What is labelled as semantic masks, after an instance mask that has no part in the map; features if asked."""

    def write(with_features: bool) -> Scored:
        benchmark: Benchmark = own_benchmark("shapes", manifest, "val", params)
        order = benchmark.classes.order()

        def predict(samples: list[Sample]) -> list[PhotoResults]:
            return [labelled(sample) for sample in samples]

        def labelled(sample: Sample) -> PhotoResults:
            each_kind = "semantic" if with_features else "region"
            segments = sample.labels["panoptic"]
            whole = mask_to_rle(torch.ones(rle_to_mask(segments[0]["segmentation"]).shape, dtype=torch.bool))
            kinds = [
                ("instance", whole, 0),
                *((each_kind, each["segmentation"], each["category_id"]) for each in segments),
            ]
            common = {"image_id": sample.labels["image_id"], "score": 1.0, "bbox": [0, 0, 1, 1], "category_id": 0}
            results = [common | {"kind": kind, "segmentation": rle} for kind, rle, _ in kinds]
            features = torch.stack(
                [torch.eye(len(order))[order.index(one)] if one else torch.ones(len(order)) for *_, one in kinds]
            )
            return PhotoResults(results, features if with_features else None)

        write_predictions(str(tmp_path / "made"), manifest, predict, batch=2, fingerprint="", what="test")
        return Scored(manifest, str(tmp_path), benchmark)

    return write


def test_scores_come_with_all_that_makes_them_comparable(
    scored: Callable[[bool], Scored], params: EvaluateParams
) -> None:
    val, group = scored(True), Group({}, {})
    add_concepts(group, "made", OWN, val, val, seen_of("made", val, val, params, 0), params, seed=0)
    assert set(group.measured) == {f"concepts_kmeans_{name}" for name in ("accuracy", "mean_accuracy", "mIoU")}
    assert group.measured["concepts_kmeans_mIoU"].value == pytest.approx(1.0)
    said = group.said["concepts_kmeans_mIoU"]
    assert (said["runs"], said["deviation"], said["mapping"], said["fit_on"], said["images"]) == (
        2,
        0,
        "hungarian",
        "val",
        6,
    )
    assert "k-means of the regions' features into" in said["protocol"]


def test_neighbours_are_those_of_other_photos_than_the_scored_ones(
    scored: Callable[[bool], Scored], params: EvaluateParams
) -> None:
    val = scored(True)
    fit, group = val._replace(), Group({}, {})
    add_concepts(group, "made", OWN, val, fit, seen_of("made", val, fit, params, 0), params, seed=0)
    assert group.measured["concepts_knn1_mIoU"].value == pytest.approx(1.0)
    assert group.said["concepts_knn1_mIoU"]["mapping"] == "1 nearest neighbours"


def test_masks_without_features_have_no_concepts(scored: Callable[[bool], Scored], params: EvaluateParams) -> None:
    val, group = scored(False), Group({}, {})
    add_concepts(group, "made", OWN, val, val, seen_of("made", val, val, params, 0), params, seed=0)
    assert group.measured == {}


def test_regions_are_named_by_a_clip(
    scored: Callable[[bool], Scored], params: EvaluateParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = params.text.model_copy(update=tiny_towers(tmp_path, monkeypatch))
    of_text = params.model_copy(update={"text": chosen})
    for with_features in (True, False):
        val, group = scored(with_features), Group({}, {})
        add_concepts(group, "made", OWN, val, val, seen_of("made", val, val, of_text, 0), of_text, seed=0)
        said = group.said["concepts_text_mIoU"]
        assert 0 <= group.measured["concepts_text_mIoU"].value < 1
        assert "CLIP tiny" in said["protocol"]
        assert "prompts: a photo of a {}." in said["protocol"]
        assert "mapping" not in said


def test_regions_are_named_by_an_image_tower_and_given_text_embeddings(
    scored: Callable[[bool], Scored], params: EvaluateParams, tmp_path: Path
) -> None:
    val, group = scored(False), Group({}, {})
    tower = tiny_tower(tmp_path, list(val.benchmark.class_names.values()))
    of_text = params.model_copy(update={"text": params.text.model_copy(update=tower)})
    add_concepts(group, "made", OWN, val, val, seen_of("made", val, val, of_text, 0), of_text, seed=0)
    assert 0 <= group.measured["concepts_text_mIoU"].value < 1
    protocol = group.said["concepts_text_mIoU"]["protocol"]
    assert "CLIP test_vit (weights " in protocol
    assert f"text embeddings {storage.sha256(tower['embeddings'])[:12]}" in protocol
