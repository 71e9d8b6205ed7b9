"""Labels that lie: each is one line that says in which file, of which entry, and what is wrong.

What contradicts itself stops the step at once; what is wrong with one photo breaks that photo, which is counted and
named as any broken photo is.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import BOX, FACTS, HEIGHT, POLYGON, WIDTH, annotation, painted, rectangle, rle, write_json, write_png
from PIL import Image

from oapseg.params import Source
from oapseg.shards.manifest import Manifest
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set

Change = Callable[[dict[str, Any]], object]


def shard(root: Path, *, max_broken: float = 0.0, **source: Any) -> Manifest:
    out = root.parent / "out"
    listing = list_source(Source(**source), str(root))
    return write_set([listing], out, samples_per_shard=9, max_broken=max_broken, max_pixels=10**7, workers=1)


def line_of(root: Path, **source: Any) -> str:
    """What sharding the source says against its labels; nothing half-written is left."""
    with pytest.raises(ValueError, match=r".") as caught:
        shard(root, **source)
    assert "\n" not in str(caught.value)
    assert not (root.parent / "out/manifest.json").exists()
    return str(caught.value)


def first(raw: dict[str, Any], **more: Any) -> None:
    raw["annotations"][0] |= more


def whole_rle(height: int, width: int) -> dict[str, Any]:
    return rle(np.ones((height, width), bool))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Photo 1 with two annotations, 11 and 12, photo 2 with none."""
    root = tmp_path / "in"
    for number in (1, 2):
        layouts.write_photo(root / f"val/{number}.jpg", number)
    write_json(root / "annotations/instances_val.json", {
        "images": [{"id": number, "file_name": f"{number}.jpg", **FACTS} for number in (1, 2)],
        "annotations": [annotation(11, 1, segmentation=[POLYGON]), annotation(12, 1, segmentation=rle(rectangle()))],
        "categories": [{"id": 1, "name": "cat"}],
    })  # fmt: skip
    return root


CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "a category that is not listed": (
        lambda raw: first(raw, category_id=99),
        "annotation 11: category 99 is none of the file's",
    ),
    "an image that is not listed": (
        lambda raw: first(raw, image_id=5),
        "annotation 11: image_id 5 is none of the file's",
    ),
    "an image listed twice": (lambda raw: raw["images"].append(raw["images"][0]), "image 1 is listed twice"),
    "a name listed twice": (
        lambda raw: raw["images"].append(raw["images"][0] | {"id": 3}),
        "1.jpg is listed twice, as images 1 and 3",
    ),
    "an annotation id given twice": (lambda raw: first(raw, id=12), "annotation 12 is listed twice"),
    "an image id as a string": (
        lambda raw: raw["images"][0].update(id="1"),
        "image '1': id must be a whole number, is '1'",
    ),
    "an annotation id as a string": (
        lambda raw: first(raw, id="11"),
        "annotation '11': id must be a whole number, is '11'",
    ),
    "an annotation's image as a string": (
        lambda raw: first(raw, image_id="1"),
        "annotation 11: image_id must be a whole number, is '1'",
    ),
    "an annotation's category as a string": (
        lambda raw: first(raw, category_id="1"),
        "annotation 11: category_id must be a whole number, is '1'",
    ),
    "a category id as a string": (
        lambda raw: raw["categories"][0].update(id="1"),
        "category '1': id must be a whole number, is '1'",
    ),
    "a category listed twice": (
        lambda raw: raw["categories"].append({"id": 1, "name": "dog"}),
        "category 1 is listed twice",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_stops_the_step_at_once(name: str, coco: Path) -> None:
    change, expected = CONTRADICTIONS[name]
    path = coco / "annotations/instances_val.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    assert line_of(coco, kind="coco", path=".", split="val") == f"{path}: {expected}"


OUTSIDE = f"the photo of {WIDTH} x {HEIGHT} px"
DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "a polygon outside": (
        {"segmentation": [POLYGON, [50, 5, 60, 5, 60, 15]]},
        f"polygon lies outside {OUTSIDE}",
    ),
    "huge coordinates": (
        {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
        f"polygon coordinate 1e+09 is far outside {OUTSIDE}",
    ),
    "a polygon with NaN": (
        {"segmentation": [[0, 0, float("nan"), 0, 5, 5]]},
        "polygon is not a list of x, y, x, y, ... in pixels",
    ),
    "a polygon of strings": (
        {"segmentation": [["0", 0, 9, 0, 9, 9]]},
        "polygon is not a list of x, y, x, y, ... in pixels",
    ),
    "a polygon of an odd count": (
        {"segmentation": [[0, 0, 9, 0, 9, 9, 4]]},
        "polygon is not a list of x, y, x, y, ... in pixels",
    ),
    "points without a list": ({"segmentation": POLYGON}, "segmentation is neither polygons nor run lengths"),
    "a polygon of two points": ({"segmentation": [[4, 4, 8, 8]]}, "zero area (no polygon of three points)"),
    "a polygon on a line": (
        {"segmentation": [[4, 4, 8, 4, 6, 4]], "area": 0},
        "zero area (no pixel of the photo lies in its region)",
    ),
    "empty run lengths": (
        {"segmentation": rle(rectangle() & False), "area": 0, "bbox": [0, 0, 0, 0]},
        "zero area (no pixel of the photo lies in its region)",
    ),
    "run lengths of another size": (
        {"segmentation": whole_rle(WIDTH, HEIGHT)},
        "run lengths of size [40, 30], the photo's is [30, 40] (height, width)",
    ),
    "run lengths that end too early": (
        {"segmentation": whole_rle(20, 40) | {"size": [30, 40]}},
        "run lengths of 800 px, the photo has 1200",
    ),
    "run lengths that go too far": (
        {"segmentation": whole_rle(60, 40) | {"size": [30, 40]}},
        "run lengths of 2400 px, the photo has 1200",
    ),
    "plain run lengths too few": (
        {"segmentation": {"size": [30, 40], "counts": [100, 50]}},
        "run lengths of 150 px, the photo has 1200",
    ),
    "plain run lengths below zero": (
        {"segmentation": {"size": [30, 40], "counts": [1300, -100]}},
        "damaged run lengths",
    ),
    "run lengths of no text": (
        {"segmentation": {"size": [30, 40], "counts": "no text"}},
        "damaged run lengths",
    ),
    "run lengths cut off": (
        {"segmentation": {"size": [30, 40], "counts": "P"}},
        "damaged run lengths",
    ),
    "a box with NaN": (
        {"bbox": [1, 1, float("nan"), 5]},
        "bbox [1, 1, nan, 5] is none (x, y, width, height in pixels)",
    ),
    "a box of negative width": ({"bbox": [9, 9, -5, 5]}, "bbox [9, 9, -5, 5] is none (x, y, width, height in pixels)"),
    "a box of three": ({"bbox": [1, 2, 3]}, "bbox [1, 2, 3] is none (x, y, width, height in pixels)"),
    "a box far away": ({"bbox": [1, 1, 1e12, 5]}, f"bbox coordinate 1e+12 is far outside {OUTSIDE}"),
    "a box alone that is outside": (
        {"segmentation": None, "bbox": [40, 1, 5, 5]},
        f"bbox [40, 1, 5, 5] lies outside {OUTSIDE}",
    ),
    "a box alone without an area": (
        {"segmentation": [], "bbox": [4, 4, 0, 5]},
        "zero area (bbox [4, 4, 0, 5])",
    ),
    "neither region nor box": ({"segmentation": [], "bbox": []}, "neither a region nor a box"),
    "an area below zero": ({"area": -3}, "area -3 is none"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_annotation_breaks_its_photo_with_file_id_and_reason(name: str, coco: Path) -> None:
    change, reason = DAMAGE[name]
    path = coco / "annotations/instances_val.json"
    raw = json.loads(path.read_text())
    first(raw, **change)
    path.write_text(json.dumps(raw))
    line = line_of(coco, kind="coco", path=".", split="val")
    assert line == (
        "shards.max_broken allows 0 of 2 photos to be broken, 1 are so far: "
        f"1.jpg (instances_val.json: annotation 11: {reason})"
    )


def test_polygons_that_cross_the_border_are_clipped_as_all_tools_do(coco: Path) -> None:
    path = coco / "annotations/instances_val.json"
    raw = json.loads(path.read_text())
    first(raw, segmentation=[[35, 25, 45, 25, 45, 35, 35, 35]])
    path.write_text(json.dumps(raw))
    assert shard(coco, kind="coco", path=".", split="val").num_samples == 2


def test_a_photo_that_is_broken_within_what_is_allowed_is_counted_and_named(coco: Path) -> None:
    path = coco / "annotations/instances_val.json"
    raw = json.loads(path.read_text())
    first(raw, bbox=[9, 9, -5, 5])
    path.write_text(json.dumps(raw))
    written = shard(coco, max_broken=0.5, kind="coco", path=".", split="val")
    reason = "instances_val.json: annotation 11: bbox [9, 9, -5, 5] is none (x, y, width, height in pixels)"
    assert written.skipped == {reason: ["1.jpg"]}


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    layouts.coco(root)
    for path in (*root.glob("images/val2017/*[23].jpg"), root / "annotations/instances_val2017.json"):
        path.unlink()
    return root


def colours(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)


MISMATCHES: dict[str, tuple[np.ndarray | None, str]] = {
    "a segment more": (
        painted(300, (70_000, BOX), (5, [20, 0, 5, 30])),
        "pixels of segment 5, which its JSON does not list",
    ),
    "a segment less": (painted(300), "no pixel of segment 70000, which its JSON lists"),
    "another size": (painted(300, (70_000, BOX)).T, "30 x 40 px, the photo has 40 x 30"),
    "no picture": (None, "no such label picture"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_panoptic_png_that_is_not_its_json_breaks_its_photo(name: str, panoptic: Path) -> None:
    ids, reason = MISMATCHES[name]
    path = panoptic / "annotations/panoptic_val2017/000000000001.png"
    path.unlink() if ids is None else write_png(path, colours(ids))
    line = line_of(panoptic, kind="coco", path=".", split="val2017")
    assert line.endswith(f"1 are so far: 000000000001.jpg (000000000001.png: {reason})")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: raw["annotations"].append(raw["annotations"][0]), "image 1 has two panoptic annotations"),
        (
            lambda raw: raw["annotations"][0]["segments_info"][0].update(category_id=7),
            "image 1: segment 300: category 7 is none of the file's",
        ),
        (
            lambda raw: raw["annotations"][0]["segments_info"][0].update(id=70_000),
            "image 1: segment 70000 is listed twice",
        ),
        (
            lambda raw: raw["annotations"][0].update(image_id="1"),
            "a panoptic annotation: image_id must be a whole number, is '1'",
        ),
    ],
)
def test_a_panoptic_file_that_contradicts_itself_stops_the_step(change: Change, expected: str, panoptic: Path) -> None:
    path = panoptic / "annotations/panoptic_val2017.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    assert line_of(panoptic, kind="coco", path=".", split="val2017") == f"{path}: {expected}"


def test_one_category_id_with_two_names_stops_the_step(panoptic: Path) -> None:
    write_json(
        panoptic / "annotations/instances_val2017.json",
        {"images": [], "annotations": [], "categories": [{"id": 187, "name": "cat"}]},
    )
    line = line_of(panoptic, kind="coco", path=".", split="val2017")
    assert line.endswith("panoptic_val2017.json: category 187 is sky-other-merged, and cat in the file of instances")


def rewritten(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_text((root / name).read_text().replace(old, new))

    return change


def drawn(name: str, ids: np.ndarray, mode: str = "L") -> Callable[[Path], None]:
    return lambda root: write_png(root / name, ids, mode)


VOC = {"kind": "voc", "path": "VOC2007", "split": "Main/trainval"}
SEGMENTED = {"kind": "voc", "path": "VOC2007", "split": "Segmentation/val"}
XML, OBJECTS = "VOC2007/Annotations/000005.xml", "VOC2007/SegmentationObject/000005.png"
TXT = "training/label_2/000007.txt"
STUFF = {"kind": "stuff", "path": ".", "split": "val2017"}
FOLDER = {"kind": "labels", "path": ".", "photos": "images", "labels": "labels"}
MASKS = "sa_000020/sa_223750.json"
FINE = "gtFine/val/lindau/lindau_000000_000019_gtFine_instanceIds.png"
OTHERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object], dict[str, Any], str]] = {
    "VOC: a class of one's own": (
        layouts.voc, rewritten(XML, "cat", "unicorn"), VOC, "000005.xml: object 1: class 'unicorn' is none of VOC's)",
    ),
    "VOC: no number": (
        layouts.voc, rewritten(XML, "7.0", "x"), VOC, "000005.xml: object 1: its box is not four numbers)",
    ),
    "VOC: NaN": (
        layouts.voc, rewritten(XML, "7.0", "nan"), VOC,
        "000005.xml: annotation 1: bbox [4.0, nan, 10.0, nan] is none (x, y, width, height in pixels))",
    ),
    "VOC: no XML": (layouts.voc, rewritten(XML, "<size>", "<"), VOC, "000005.xml: not XML of VOC's form)"),
    "VOC: no file": (layouts.voc, lambda root: (root / XML).unlink(), VOC, "000005.xml: no such annotation file)"),
    "VOC: of another photo": (
        layouts.voc, rewritten(XML, "<width>40", "<width>41"), VOC, "000005.xml: 41 x 30 px, the photo has 40 x 30)",
    ),
    "VOC: an object on the background": (
        layouts.voc, drawn(OBJECTS, painted(0, (2, [30, 20, 4, 4])), "P"), SEGMENTED,
        "000005.png: object 2 has no class in SegmentationClass)",
    ),
    "VOC: in colours": (
        layouts.voc, lambda root: Image.new("RGB", (WIDTH, HEIGHT)).save(root / OBJECTS), SEGMENTED,
        "000005.png: pixels are RGB; class ids are one number a pixel)",
    ),
    "KITTI: a type of one's own": (
        layouts.kitti, rewritten(TXT, "Car", "Cat"), {"kind": "kitti", "path": "."},
        "000007.txt: line 1: type 'Cat' is none of KITTI's)",
    ),
    "KITTI: a short line": (
        layouts.kitti, rewritten(TXT, "4.00 6.00 14.00", ""), {"kind": "kitti", "path": "."},
        "000007.txt: line 1 is not a type and 14 numbers)",
    ),
    "SA-1B: of another photo": (
        layouts.sa1b, rewritten(MASKS, "223750,", "3,"), {"kind": "sa1b", "path": "."},
        "sa_223750.json: masks of image 3, the photo is 223750)",
    ),
    "SA-1B: no JSON": (
        layouts.sa1b, rewritten(MASKS, "{", "["), {"kind": "sa1b", "path": "."},
        "sa_223750.json: not a JSON of SA-1B's form)",
    ),
    "COCO-Stuff: a value beyond the classes": (
        layouts.coco, drawn("stuffthingmaps/val2017/000000000001.png", painted(200)), STUFF,
        "000000000001.png: pixels of class 200, which is none of the source's)",
    ),
    "Cityscapes: a label beyond the classes": (
        layouts.cityscapes, drawn(FINE, painted(7, (40_000, BOX)), "I;16"),
        {"kind": "cityscapes", "path": ".", "split": "val"},
        "lindau_000000_000019_gtFine_instanceIds.png: pixels of class 40, which is none of the source's)",
    ),
    "labels: a value beyond the list of classes": (
        layouts.labels, drawn("labels/top/0.png", painted(3)), FOLDER,
        "0.png: pixels of class 3, which is none of the source's)",
    ),
    "labels: no picture": (
        layouts.labels, lambda root: (root / "labels/top/0.png").write_bytes(b"no picture"), FOLDER,
        "0.png: not a whole picture)",
    ),
    "labels: a photo without": (
        layouts.labels, lambda root: (root / "labels/top/0.png").unlink(), FOLDER,
        "in/labels: no label picture 0.png for the photo top/0.png",
    ),
    "YouTube-VIS: fewer regions than frames": (
        layouts.ytvis, rewritten("train/instances.json", '"areas": [80, 80]', '"areas": [80]'),
        {"kind": "ytvis", "path": "train", "photos": "JPEGImages", "labels": "instances.json"},
        "instances.json: annotation 21: 1 areas, video 1 has 2 frames",
    ),
    "LVIS: a category that is not listed": (
        layouts.coco, rewritten("annotations/lvis_v1_val.json", '"category_id": 1', '"category_id": 9'),
        {"kind": "lvis", "path": ".", "split": "val"},
        "lvis_v1_val.json: annotation 11: category 9 is none of the file's",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_every_layout_names_the_file_and_the_entry_that_are_wrong(name: str, tmp_path: Path) -> None:
    builder, change, source, expected = OTHERS[name]
    builder(tmp_path / "in")
    change(tmp_path / "in")
    line = line_of(tmp_path / "in", **source)
    assert line.endswith(expected)
