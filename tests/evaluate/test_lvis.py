"""LVIS: equal to a slow oracle of its rules, with its frequency groups, from its layout to the scores."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lvis_oracle import lvis_scores
from pycocotools import mask as coco_mask

from oapseg.evaluate.benchmark import public_benchmark
from oapseg.evaluate.class_aware import score_class_aware
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.masks import mask_to_rle
from oapseg.params import default_params_path, load_params
from oapseg.shards.manifest import load_manifest
from oapseg.shards.sources import list_benchmark
from oapseg.shards.write import write_set

sys.path.append(str(Path(__file__).parents[1] / "shards"))
from layouts import BUILDERS

H, W = 130, 140
MAX_DETS = 6
NO_RESAMPLES = np.zeros((0, 3), dtype=np.int64)


def random_mask(rng: np.random.Generator) -> dict[str, Any]:
    mask = torch.zeros(H, W, dtype=torch.bool)
    height, width = rng.integers(8, 125, 2)
    top, left = rng.integers(0, H - height + 1), rng.integers(0, W - width + 1)
    mask[top : top + height, left : left + width] = True
    mask[:, ::7] &= bool(rng.random() < 0.5)
    rle = mask_to_rle(mask)
    box = [float(side) for side in coco_mask.toBbox(rle)]
    return {"segmentation": rle, "bbox": box, "area": float(coco_mask.area(rle))}


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Three photos, five classes, federated labels; predictions near the things, of wrong classes, and anywhere."""
    rng = np.random.default_rng(seed)
    classes = [{"id": number, "name": str(number), "frequency": "rccff"[number - 1]} for number in range(1, 6)]
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": classes}
    found = []
    for image in (1, 2, 3):
        shown = rng.choice(5, rng.integers(0, 4), replace=False) + 1
        others = [number for number in range(1, 6) if number not in shown]
        for number in rng.choice(shown, rng.integers(len(shown), 5)) if len(shown) else []:
            each = {"id": 1 + len(truth["annotations"]), "image_id": image, "category_id": int(number), "iscrowd": 0}
            truth["annotations"].append(each | random_mask(rng))
            if rng.random() < 0.8:
                category = int(number) if rng.random() < 0.8 else int(rng.integers(1, 6))
                near = truth["annotations"][-1] if rng.random() < 0.6 else random_mask(rng)
                found.append({**near, "image_id": image, "category_id": category, "score": round(rng.random(), 1)})
        found += [
            {**random_mask(rng), "image_id": image, "category_id": int(rng.integers(1, 6)), "score": rng.random()}
            for _ in range(rng.integers(0, 5))
        ]
        present = sorted({each["category_id"] for each in truth["annotations"] if each["image_id"] == image})
        partial = [number for number in present if rng.random() < 0.3]
        absent = [number for number in others if rng.random() < 0.5]
        federated = {"neg_category_ids": absent, "not_exhaustive_category_ids": partial}
        truth["images"].append({"id": image, "width": W, "height": H, **federated})
    return truth, found


def test_its_scores_equal_the_oracles_on_a_hundred_random_cases() -> None:
    compared = 0
    for seed in range(100):
        truth, found = random_case(seed)
        overlaps = find_overlaps(by_photo(truth, found))
        if not (len(overlaps.absent) or len(overlaps.partial)):
            continue
        frequencies = {each["id"]: each["frequency"] for each in truth["categories"]}
        same = {number: number for number in frequencies}
        ours = score_class_aware(overlaps, same, same, NO_RESAMPLES, MAX_DETS, frequencies=frequencies)
        for measure in ("mask", "box"):
            for name, expected in lvis_scores(truth, found, measure, MAX_DETS).items():
                value = ours[f"{measure}_{name}"].value if f"{measure}_{name}" in ours else np.nan
                assert np.nan_to_num(value, nan=-1.0) == pytest.approx(expected, abs=1e-12), (seed, measure, name)
                compared += expected > 0
    assert compared > 1000


def test_the_groups_are_those_that_its_file_gives_the_categories(tmp_path: Path) -> None:
    BUILDERS["coco"](tmp_path / "coco")
    chosen = load_params(default_params_path()).benchmarks["lvis_v1"]
    listings = list_benchmark("lvis_v1", chosen, str(tmp_path / "coco"))
    size = {"samples_per_shard": 2, "max_broken": 0.0, "max_pixels": 10**6, "workers": 1}
    manifest = load_manifest(write_set(listings, str(tmp_path / "shards"), **size).location)
    assert public_benchmark("lvis_v1", manifest, chosen).frequencies == ("c", "f")
    plain = tuple({key: each[key] for key in ("id", "name", "isthing")} for each in manifest.categories)
    assert public_benchmark("lvis_v1", replace(manifest, categories=plain), chosen).frequencies == ()
