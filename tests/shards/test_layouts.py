"""Every benchmark of `params.yaml` reads its data set's published layout to the labels that are in it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import BOX, BUILDERS, HEIGHT, WIDTH, painted, rectangle

from oapseg.masks import rle_to_mask
from oapseg.params import BenchmarkParams, Source, default_params_path, load_params
from oapseg.shards.listing import Listing, MissingData
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos
from oapseg.shards.sources import TASK_LABELS, list_benchmark, list_source
from oapseg.shards.write import write_set

BENCHMARKS: dict[str, BenchmarkParams] = load_params(default_params_path()).benchmarks


def shards(listings: list[Listing], out: Path) -> Manifest:
    return write_set(listings, out, samples_per_shard=100, max_broken=0.0, max_pixels=10**7, workers=1)


def samples(root: Path, out: Path, **source: Any) -> dict[str, dict[str, Any]]:
    """The labels of every sample by original name, after sharding and reading."""
    found = Photos(shards([list_source(Source(**source), str(root))], out))
    return {sample.labels["name"]: sample.labels for sample in found}


def source_of(name: str) -> dict[str, Any]:
    """The only source of a benchmark, as the keys that `params.yaml` gives it."""
    [source] = BENCHMARKS[name].sources
    return source.model_dump(exclude_none=True)


def mask(labelled: dict[str, Any]) -> np.ndarray:
    return rle_to_mask(labelled["segmentation"]).numpy()


def build(name: str, root: Path) -> Path:
    """The data set of a benchmark, below a root of its own."""
    BUILDERS[Path(BENCHMARKS[name].root).name](root)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Callable[[Path], None]], Path]:
    """Builds a layout and gives its root."""

    def make(builder: Callable[[Path], None]) -> Path:
        root = tmp_path / builder.__name__
        builder(root)
        return root

    return make


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_reads_its_published_layout_to_labels_of_its_tasks(name: str, tmp_path: Path) -> None:
    listings = list_benchmark(name, BENCHMARKS[name], str(build(name, tmp_path / "in")))
    found = list(Photos(shards(listings, tmp_path / "out")))
    listed = [item.label_kinds for listing in listings for item in listing.items]
    assert all(kinds <= sample.labels.keys() for kinds, sample in zip(listed, found, strict=True))
    for task in BENCHMARKS[name].tasks:
        assert all(TASK_LABELS[task] & sample.labels.keys() for sample in found)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_layout_gives_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    root = str(build(name, tmp_path / "in"))
    written = []
    for out in (tmp_path / "one", tmp_path / "two"):
        shards(list_benchmark(name, BENCHMARKS[name], root), out)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_listed_travels_to_another_process(name: str, tmp_path: Path) -> None:
    for listing in list_benchmark(name, BENCHMARKS[name], str(build(name, tmp_path / "in"))):
        assert pickle.loads(pickle.dumps(listing)) == listing


@pytest.mark.parametrize("name", BENCHMARKS)
def test_missing_data_are_one_line_that_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(MissingData) as caught:
        list_benchmark(name, BENCHMARKS[name], str(tmp_path / "data/benchmarks/here"))
    line = str(caught.value)
    assert line.startswith(f"benchmarks.{name}: {tmp_path}/data/benchmarks/here")
    assert "; put into " in line
    assert "\n" not in line


def test_the_line_of_missing_data_names_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        list_benchmark("voc2007", BENCHMARKS["voc2007"], str(tmp_path / "VOCdevkit"))
    assert str(caught.value) == (
        f"benchmarks.voc2007: {tmp_path}/VOCdevkit/VOC2007: no such folder; {tmp_path} holds nothing; "
        f"put into {tmp_path}/VOCdevkit/VOC2007: a year of VOCdevkit: JPEGImages/*.jpg, Annotations/*.xml, "
        "ImageSets/{Main,Segmentation}/*.txt, SegmentationClass/*.png, SegmentationObject/*.png"
    )


def test_photos_without_the_labels_of_a_task_are_missing_data(tree) -> None:
    root = tree(layouts.coco)
    (root / "annotations/panoptic_val2017.json").unlink()
    assert list_benchmark("coco_val2017", BENCHMARKS["coco_val2017"], str(root))
    with pytest.raises(MissingData, match=r"benchmarks.coco_panoptic: .*: photos, but no panoptic labels of any; put "):
        list_benchmark("coco_panoptic", BENCHMARKS["coco_panoptic"], str(root))


def test_lvis_photos_come_from_both_splits_of_coco_with_what_is_known_to_be_absent(tree, tmp_path) -> None:
    found = samples(tree(layouts.coco), tmp_path / "out", kind="lvis", path=".", split="val")
    assert list(found) == ["train2017/000000000007.jpg", "val2017/000000000001.jpg"]
    assert [labels["neg_category_ids"] for labels in found.values()] == [[2], [2]]
    assert [labels["not_exhaustive_category_ids"] for labels in found.values()] == [[1], [1]]
    assert found["train2017/000000000007.jpg"]["instances"] == []
    [instance] = found["val2017/000000000001.jpg"]["instances"]
    assert np.array_equal(mask(instance), rectangle())


def test_a_list_keeps_the_photos_that_it_names_by_name_or_by_id(tree, tmp_path) -> None:
    found = samples(tree(layouts.coco), tmp_path / "out", **source_of("coco_20k"))
    assert list(found) == ["COCO_train2014_000000000001.jpg", "COCO_train2014_000000000003.jpg"]


def test_a_list_with_a_photo_that_is_not_there_is_said_in_a_line(tree) -> None:
    root = tree(layouts.coco)
    (root / "coco_20k_filenames.txt").write_text("1\n000000000009\n")
    with pytest.raises(MissingData, match=r"20k_filenames.txt: 1 of 2 photos listed are not there, the first: 0+9$"):
        list_source(BENCHMARKS["coco_20k"].sources[0], str(root))


def test_coco_stuff_pixels_are_classes_less_one_and_255_is_void(tree, tmp_path) -> None:
    root = tree(layouts.coco)
    labels = samples(root, tmp_path / "out", **source_of("coco_stuff27"))["000000000002.jpg"]
    person, sky = labels["semantic"]
    assert (person["category_id"], sky["category_id"], labels["image_id"]) == (1, 157, 2)
    assert np.array_equal(mask(person), rectangle())
    assert np.array_equal(mask(sky), rectangle([20, 0, 5, 30]))
    [listing] = list_benchmark("coco_stuff27", BENCHMARKS["coco_stuff27"], str(root))
    names = {category["id"]: category["name"] for category in listing.categories}
    assert (names[1], names[157], len(names)) == ("person", "sky-other", 182)


def test_voc_boxes_begin_at_pixel_one_and_hold_their_last_pixel(tree, tmp_path) -> None:
    found = samples(tree(layouts.voc), tmp_path / "out", kind="voc", path="VOC2007", split="Main/test")
    first, second = found["000012.jpg"]["instances"]
    assert first == {"id": 1, "category_id": 8, "bbox": BOX, "area": 80, "iscrowd": 0, "difficult": 0, "truncated": 1}
    assert second["difficult"] == 1


def test_a_split_of_voc_without_a_folder_is_one_of_main_and_may_carry_flags(tree, tmp_path) -> None:
    found = samples(tree(layouts.voc), tmp_path / "out", kind="voc", path="VOC2012", split="cat_test")
    assert list(found) == ["000012.jpg"]


def test_voc_segmentations_have_classes_and_objects_and_their_border_is_void(tree, tmp_path) -> None:
    labels = samples(tree(layouts.voc), tmp_path / "out", **source_of("voc2012_semantic"))["000005.jpg"]
    background, cat = labels["semantic"]
    assert (background["category_id"], cat["category_id"]) == (0, 8)
    assert np.array_equal(mask(background), ~rectangle([3, 5, 12, 10]))
    [instance] = labels["instances"]
    assert (instance["category_id"], instance["bbox"], instance["area"]) == (8, BOX, 80)
    assert np.array_equal(mask(instance), mask(cat))


def test_a_file_of_coco_form_takes_the_photos_it_names_and_counts_those_absent(tree, tmp_path) -> None:
    root = tree(layouts.uvo)
    found = samples(root, tmp_path / "out", **source_of("uvo_sparse"))
    assert list(found) == ["aBcD/30.png"]
    assert np.array_equal(mask(found["aBcD/30.png"]["instances"][0]), rectangle())
    listing = list_source(BENCHMARKS["uvo_sparse"].sources[0], str(root))
    assert listing.description == "val_sparse_cleaned_cls_agnostic.json, 1 labelled photos absent"


def test_boxes_alone_are_instances_without_regions(tree, tmp_path) -> None:
    found = samples(tree(layouts.objects365), tmp_path / "out", **source_of("objects365"))
    labels = found["images/v1/patch8/objects365_v1_00420917.jpg"]
    assert labels["instances"] == [{"id": 51, "category_id": 84, "bbox": BOX, "area": 80, "iscrowd": 0}]
    assert (labels["image_id"], labels["licence"]) == (420917, "CC BY-SA")


def test_what_kitti_does_not_care_for_is_a_crowd(tree, tmp_path) -> None:
    labels = samples(tree(layouts.kitti), tmp_path / "out", **source_of("kitti"))["000007.png"]
    assert labels["image_id"] == 7
    assert labels["instances"] == [
        {"id": 1, "category_id": 1, "bbox": BOX, "area": 80, "iscrowd": 0},
        {"id": 2, "category_id": 9, "bbox": [20.5, 1, 9.5, 8], "area": 76, "iscrowd": 1},
    ]


def test_masks_of_sa1b_lie_beside_each_photo(tree, tmp_path) -> None:
    labels = samples(tree(layouts.sa1b), tmp_path / "out", **source_of("sa1b"))["sa_000020/sa_223750.jpg"]
    [instance] = labels["instances"]
    assert (instance["id"], instance["category_id"], labels["image_id"]) == (9, 1, 223750)
    assert np.array_equal(mask(instance), rectangle())


def test_cityscapes_segments_tell_instances_groups_and_stuff(tree, tmp_path) -> None:
    found = samples(tree(layouts.cityscapes), tmp_path / "out", **source_of("cityscapes_panoptic"))
    segments = found["frankfurt/frankfurt_000000_000019_leftImg8bit.png"]["panoptic"]
    shown = [tuple(each[key] for key in ("id", "category_id", "iscrowd", "isthing")) for each in segments]
    assert shown == [(7, 7, 0, 0), (24, 24, 1, 1), (26_000, 26, 0, 1), (26_001, 26, 0, 1)]
    assert np.array_equal(mask(segments[2]), rectangle())
    assert sum(mask(each).sum() for each in segments) == WIDTH * 20  # all but the void


def test_cityscapes_label_ids_alone_are_classes(tree, tmp_path) -> None:
    root = tree(layouts.cityscapes)
    (root / "gtFine/val/lindau/lindau_000000_000019_gtFine_instanceIds.png").unlink()
    found = samples(root, tmp_path / "out", **source_of("cityscapes27"))
    labels = found["lindau/lindau_000000_000019_leftImg8bit.png"]
    assert "panoptic" not in labels
    assert [each["category_id"] for each in labels["semantic"]] == [7, 24, 26]
    assert np.array_equal(mask(labels["semantic"][2]), rectangle() | rectangle([20, 6, 5, 5]))


def test_a_folder_of_labels_is_named_by_its_list_of_classes(tree, tmp_path) -> None:
    root = tree(layouts.labels)
    surface, trees = samples(root, tmp_path / "out", **source_of("labels_folder"))["top/1.png"]["semantic"]
    assert (surface["category_id"], trees["category_id"]) == (0, 2)
    assert np.array_equal(mask(surface), painted(1, (0, BOX), (0, [0, 20, 40, 10])) == 1)
    listing = list_source(BENCHMARKS["labels_folder"].sources[0], str(root))
    assert [each["name"] for each in listing.categories] == ["impervious surface", "building", "tree"]


def test_a_folder_of_labels_without_a_list_has_the_classes_that_its_pixels_show(tree) -> None:
    root = tree(layouts.labels)
    (root / "classes.txt").unlink()
    listing = list_source(BENCHMARKS["labels_folder"].sources[0], str(root))
    assert [each["name"] for each in listing.categories] == ["class 0", "class 2"]


def test_frames_of_a_video_show_the_tracks_that_are_there(tree, tmp_path) -> None:
    found = samples(tree(layouts.ytvis), tmp_path / "out", **source_of("ytvis2019"))
    assert [[each["id"] for each in labels["instances"]] for labels in found.values()] == [[21], [21, 22]]
    video = {"id": 1, "name": "0043f083b5"}
    assert [labels["video"] for labels in found.values()] == [video | {"frame": 0}, video | {"frame": 1}]
    assert np.array_equal(mask(found["0043f083b5/00005.jpg"]["instances"][1]), rectangle())


def test_the_white_of_a_saliency_mask_is_one_instance_and_black_is_none(tree, tmp_path) -> None:
    found = samples(tree(layouts.duts), tmp_path / "out", **source_of("duts_te"))
    [instance] = found["0000.jpg"]["instances"]
    assert np.array_equal(mask(instance), rectangle())
    assert (instance["bbox"], instance["area"]) == (BOX, 80)
    assert found["0001.jpg"]["instances"] == []


def test_semantic_pngs_of_coco_serve_photos_without_panoptic_segments(tree, tmp_path) -> None:
    root = tree(layouts.coco)
    layouts.write_photo(root / "images/val2017/000000000004.jpg", 4)
    for number in (3, 4):
        layouts.write_png(root / f"annotations/semantic_val2017/{number:012d}.png", painted(0, (187, BOX)))
    found = samples(root, tmp_path / "out", kind="coco", path=".", split="val2017")
    assert "semantic" not in found["000000000003.jpg"]
    [sky] = found["000000000004.jpg"]["semantic"]
    assert sky["category_id"] == 187
    assert np.array_equal(mask(sky), rectangle())


@pytest.mark.parametrize(
    ("builder", "name", "kind"), [(layouts.coco, "coco_stuff27", "semantic"), (layouts.ytvis, "ytvis2019", "video")]
)
def test_our_own_shards_as_a_source_keep_labels_of_every_kind(builder, name, kind, tree, tmp_path) -> None:
    first = samples(tree(builder), tmp_path / "shards", **source_of(name))
    again = samples(tmp_path, tmp_path / "again", kind="tar", path="shards")
    assert [labels[kind] for labels in again.values()] == [labels[kind] for labels in first.values()]


def test_the_tiny_copies_are_not_square_so_that_no_turned_mask_passes() -> None:
    assert WIDTH != HEIGHT
