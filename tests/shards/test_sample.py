import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter, label

from oapseg.params import SampleParams
from oapseg.shards.sample import make_sample
from oapseg.shards.scenes.compose import CATEGORIES, draw_scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2

PARAMS = SampleParams(train=6, val=3, size_px=224)
NUM_THINGS = 8


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    make_sample(out, PARAMS, seed=0, workers=1)
    return out


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def panoptic(sample: Path, split: str = "train"):
    """Every photo's panoptic annotation, its ids by pixel and its categories by pixel."""
    folder = sample / "annotations"
    for annotation in json.loads((folder / f"panoptic_{split}.json").read_text())["annotations"]:
        colours = np.asarray(Image.open(folder / f"panoptic_{split}" / annotation["file_name"])).astype(int)
        semantic = np.asarray(Image.open(folder / f"semantic_{split}" / annotation["file_name"]))
        yield annotation, colours @ [1, 256, 65536], semantic


def test_the_same_seed_draws_the_same_files_in_any_number_of_processes(sample, tmp_path):
    make_sample(tmp_path, SampleParams(train=9, val=3, size_px=224), seed=1, workers=1)
    make_sample(tmp_path, PARAMS, seed=0, workers=3)
    assert content(tmp_path) == content(sample)


def test_another_seed_draws_other_photos():
    first, second = (draw_scene(np.random.default_rng([seed, 0, 0]), 128).image for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_the_splits_have_the_photos_asked_for_and_share_none(sample):
    names = {split: list((sample / "images" / split).iterdir()) for split in ("train", "val")}
    assert (len(names["train"]), len(names["val"])) == (6, 3)
    photos = [path.read_bytes() for paths in names.values() for path in paths]
    assert len(set(photos)) == 9


def test_panoptic_segments_cover_every_pixel_once(sample):
    for annotation, ids, _ in panoptic(sample):
        listed = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        values, counts = np.unique(ids, return_counts=True)
        assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == listed


def test_semantic_pixels_are_the_category_of_their_segment(sample):
    for annotation, ids, semantic in panoptic(sample):
        for segment in annotation["segments_info"]:
            assert (semantic[ids == segment["id"]] == segment["category_id"]).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_instances_are_the_panoptic_things_to_the_pixel(sample, split):
    coco = COCO(sample / "annotations" / f"instances_{split}.json")
    seen = 0
    for annotation, ids, _ in panoptic(sample, split):
        for instance in coco.loadAnns(coco.getAnnIds(annotation["image_id"])):
            mask = coco.annToMask(instance).astype(bool)
            assert np.array_equal(mask, ids == instance["id"])
            assert instance["bbox"] == coco_mask.toBbox(instance["segmentation"]).tolist()
            seen += 1
        things = [segment for segment in annotation["segments_info"] if segment["category_id"] <= NUM_THINGS]
        assert len(things) == len(coco.getAnnIds(annotation["image_id"]))
    assert seen == len(coco.anns) > 0


def test_every_class_is_drawn_and_scenes_are_rich():
    scenes = [draw_scene(np.random.default_rng([0, 0, number]), 224) for number in range(60)]
    assert {category for scene in scenes for category in scene.segments} == set(range(1, len(CATEGORIES) + 1))
    things = [[category for category in scene.segments if category <= NUM_THINGS] for scene in scenes]
    assert min(len(scene) for scene in things) >= 1
    assert np.mean([len(scene) for scene in things]) > 3
    assert np.mean([len(set(scene)) < len(scene) for scene in things]) > 0.5  # repeated instances
    areas = np.concatenate([np.bincount(scene.numbers.ravel())[1:] for scene in scenes]) / 224**2
    assert 0.004 < areas.min() < 0.03
    assert areas.max() > 0.3


def test_a_class_has_no_colour_of_its_own():
    hues: dict[int, list[np.ndarray]] = {}
    for number in range(80):
        scene = draw_scene(np.random.default_rng([0, 0, number]), 128)
        for at, category in enumerate(scene.segments):
            hues.setdefault(category, []).append(scene.image[scene.numbers == at].mean(0))
    things = [np.array(hues[category]) for category in range(1, NUM_THINGS + 1)]
    within = np.mean([colours.std(0) for colours in things])
    between = np.std([colours.mean(0) for colours in things], axis=0).mean()
    assert between < 0.5 * within


def colour_regions(image: np.ndarray) -> np.ndarray:
    """What colour alone proposes: connected regions of the photo's 4, 8 and 16 main colours."""
    soft = gaussian_filter(image.astype(float), (1, 1, 0)).reshape(-1, 3)
    regions = []
    for count in (4, 8, 16):
        nearest = kmeans2(soft, count, seed=0, minit="++")[1].reshape(image.shape[:2])
        for colour in range(count):
            parts, _ = label(nearest == colour)
            sizes = np.bincount(parts.ravel())
            regions += [(parts == part).ravel() for part in range(1, len(sizes)) if sizes[part] >= 100]
    return np.array(regions, np.float32)


def test_colour_alone_does_not_find_the_things():
    """Even where an oracle picks the best of some 190 regions a photo."""
    best = []
    for number in range(8):
        scene = draw_scene(np.random.default_rng([0, 1, number]), 224)
        things = [at for at, category in enumerate(scene.segments) if category <= NUM_THINGS]
        truth = np.array([(scene.numbers == at).ravel() for at in things], np.float32)
        regions = colour_regions(scene.image)
        shared = truth @ regions.T
        best.append((shared / (truth.sum(1)[:, None] + regions.sum(1) - shared)).max(1))
    ious = np.concatenate(best)
    recall = (ious[:, None] >= np.arange(0.5, 1, 0.05)).mean()
    assert ious.mean() < 0.5
    assert recall < 0.2
