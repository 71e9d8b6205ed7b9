"""Clusters as rows of exemplars: which masks are shown, how, and within how many bytes."""

from typing import Any

import numpy as np
import pytest
import torch
from train.tiny import tiny_shards

from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.predictions import PhotoResults, Predictions, write_predictions
from oapseg.masks import mask_to_rle
from oapseg.report.exemplars import Cluster, cut_out, most_used
from oapseg.report.jpeg import jpeg_text
from oapseg.shards.manifest import Manifest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def predictions(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    """In each photo two masks of cluster 5, one of them better, one of cluster 2, one region and one weak mask."""
    folder = str(tmp_path_factory.mktemp("predictions"))
    masks = [(5, 0.9, "instance"), (5, 0.7, "instance"), (2, 0.8, "semantic"), (4, 1.0, "region"), (3, 0.1, "instance")]

    def predict(samples: list[Any]) -> list[PhotoResults]:
        found = []
        for sample in samples:
            mask = torch.zeros(sample.image.shape[:2], dtype=torch.bool)
            mask[2:9, 3:20] = True
            said = {"image_id": sample.labels["image_id"], "segmentation": mask_to_rle(mask), "cluster_name": "dog"}
            found.append(
                PhotoResults(
                    [said | {"category_id": each, "score": score, "kind": kind} for each, score, kind in masks]
                )
            )
        return found

    write_predictions(folder, manifest, predict, batch=2, fingerprint="", what="test")
    return Predictions(folder)


def shown(manifest: Manifest, predictions: Predictions, **more: int) -> list[Cluster]:
    chosen = {"clusters": 9, "each": 2, "max_bytes": 5000, **more}
    return most_used(manifest, predictions, min_score=0.3, **chosen)


def test_the_most_used_clusters_come_first_and_a_photo_shows_one_mask_of_each(
    manifest: Manifest, predictions: Predictions
) -> None:
    found = shown(manifest, predictions, each=100)
    photos = sum(1 for _ in all_labels(manifest))
    assert [(each.number, each.name, each.masks) for each in found] == [(5, "dog", 2 * photos), (2, "dog", photos)]
    assert [len(each.pictures) for each in found] == [photos, photos]


def test_no_more_clusters_and_pictures_are_shown_than_asked_for(manifest: Manifest, predictions: Predictions) -> None:
    (only,) = shown(manifest, predictions, clusters=1)
    assert len(only.pictures) == 2
    assert all(len(picture) <= 5000 for picture in only.pictures)


def test_equal_predictions_give_equal_rows(manifest: Manifest, predictions: Predictions) -> None:
    assert shown(manifest, predictions) == shown(manifest, predictions)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0, 0, 40, 60), (10, 5, 12, 55), (39, 59, 40, 60)])
def test_a_mask_anywhere_is_cut_out_in_full_light_and_the_rest_is_dim(box: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = box
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    pixels = cut_out(torch.full((40, 60, 3), 200, dtype=torch.uint8), mask)
    assert max(pixels.shape[:2]) == 120
    tones = set(np.unique(pixels[..., 2]).tolist())
    assert 0 in tones or (box == (0, 0, 40, 60) and tones == {200})  # the edge, which a whole photo has not
    assert box == (0, 0, 40, 60) or pixels[..., 2].min() <= 80


def test_a_picture_keeps_within_its_bytes_whatever_it_shows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    assert len(jpeg_text(noise, 4000, 360)) <= 4000
    assert len(jpeg_text(noise, 10)) < 1500
