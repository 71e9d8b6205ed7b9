"""Tiny copies of published data sets, each in the layout in which it is published, with labels known to the pixel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from photo_files import encoded
from PIL import Image
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 40, 30
FACTS = {"width": WIDTH, "height": HEIGHT}
BOX = [4, 6, 10, 8]  # x, y, width, height of the one rectangle that all layouts show
POLYGON = [4, 6, 14, 6, 14, 14, 4, 14]
VOC_OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><truncated>1</truncated>
<bndbox><xmin>5</xmin><ymin>7.0</ymin><xmax>14</xmax><ymax>14</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"""


def rectangle(box: list[int] = BOX) -> np.ndarray:
    """The pixels of a box as a mask."""
    x, y, width, height = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def painted(background: int, *regions: tuple[int, list[int]]) -> np.ndarray:
    """Class ids: boxes of a value each, later ones on top."""
    ids = np.full((HEIGHT, WIDTH), background)
    for value, box in regions:
        ids[rectangle(box)] = value
    return ids


def rle(mask: np.ndarray) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def write_photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path.write_bytes(encoded(Image.fromarray(pixels), "PNG" if path.suffix == ".png" else "JPEG"))


def write_png(path: Path, ids: np.ndarray, mode: str = "L") -> None:
    """Class ids as PNG: 8 bits, 16 bits ("I;16") or a palette ("P")."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def annotation(number: int, image_id: int, category_id: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": BOX,
        "area": 80,
        "iscrowd": 0,
    } | more


def coco(root: Path) -> None:
    """COCO 2017 val and 2014 train, LVIS, COCO-Stuff, the lists of COCO-20K and of the 2,175 curated photos."""
    stuff = [{"id": 1, "name": "person", "isthing": 1}, {"id": 187, "name": "sky-other-merged", "isthing": 0}]
    for number in (1, 2, 3):
        write_photo(root / f"images/val2017/{number:012d}.jpg", number)
        write_png(root / f"stuffthingmaps/val2017/{number:012d}.png", painted(255, (0, BOX), (156, [20, 0, 5, 30])))
        write_photo(root / f"images/train2014/COCO_train2014_{number:012d}.jpg", number)
    write_photo(root / "images/train2017/000000000007.jpg", 7)
    images = [{"id": number, "file_name": f"{number:012d}.jpg", **FACTS} for number in (1, 2, 3)]
    people = {"categories": [{"id": 1, "name": "person"}]}
    two = [annotation(11, 1, segmentation=[POLYGON]), annotation(12, 2, segmentation=rle(rectangle()), iscrowd=1)]
    write_json(root / "annotations/instances_val2017.json", {"images": images, "annotations": two, **people})
    train = [image | {"file_name": f"COCO_train2014_{image['file_name']}"} for image in images]
    write_json(root / "annotations/instances_train2014.json", {"images": train, "annotations": two, **people})
    (root / "coco_20k_filenames.txt").write_text("train2014/COCO_train2014_000000000001.jpg\n3\n")
    ids = painted(300, (70_000, BOX), (0, [20, 0, 5, 30]))
    for number in (1, 2, 3):
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
        write_png(root / f"annotations/panoptic_val2017/{number:012d}.png", colours)
    segments = [{"id": 300, "category_id": 187}, {"id": 70_000, "category_id": 1, "iscrowd": 0}]
    panoptic = [
        {"image_id": image["id"], "file_name": f"{image['id']:012d}.png", "segments_info": segments} for image in images
    ]
    write_json(
        root / "annotations/panoptic_val2017.json", {"images": images, "annotations": panoptic, "categories": stuff}
    )
    url = "http://images.cocodataset.org/"
    federated = {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]}
    lvis_images = [
        {"id": 1, "coco_url": f"{url}val2017/000000000001.jpg", **FACTS, **federated},
        {"id": 7, "coco_url": f"{url}train2017/000000000007.jpg", **FACTS, **federated},
    ]
    lvis = [{key: value for key, value in two[0].items() if key != "iscrowd"}]
    names = [{"id": 1, "name": "aerosol_can", "frequency": "c"}, {"id": 2, "name": "alarm_clock", "frequency": "f"}]
    write_json(root / "annotations/lvis_v1_val.json", {"images": lvis_images, "annotations": lvis, "categories": names})
    listed = root / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("000000000001\n000000000003\n")


def voc(root: Path) -> None:
    """Both years of the devkit: boxes of two photos, segmentations of one of them."""
    for year in ("VOC2007", "VOC2012"):
        folder = root / year
        for number, name in enumerate(("000005", "000012")):
            write_photo(folder / f"JPEGImages/{name}.jpg", number)
            objects = "".join(VOC_OBJECT.format(name="cat", difficult=flag) for flag in range(number + 1))
            xml = f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{objects}</annotation>"
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / f"Annotations/{name}.xml").write_text(xml)
        write_png(folder / "SegmentationClass/000005.png", painted(0, (255, [3, 5, 12, 10]), (8, BOX)), "P")
        write_png(folder / "SegmentationObject/000005.png", painted(0, (255, [3, 5, 12, 10]), (1, BOX)), "P")
        for split, names in {
            "Main/trainval": "000005\n",
            "Main/test": "000012\n",
            "Main/cat_test": "000012  1\n",
            "Segmentation/val": "000005\n",
        }.items():
            (folder / "ImageSets" / split).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"ImageSets/{split}.txt").write_text(names)


def uvo(root: Path) -> None:
    write_photo(root / "all_UVO_frames/aBcD/30.png")
    images = [{"id": 5, "file_name": "aBcD/30.png", **FACTS}, {"id": 6, "file_name": "gone/0.png", **FACTS}]
    found = [annotation(1, 5, segmentation=rle(rectangle()))]
    raw = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "object"}]}
    write_json(root / "annotations/val_sparse_cleaned_cls_agnostic.json", raw)


def kitti(root: Path) -> None:
    write_photo(root / "training/image_2/000007.png")
    (root / "training/label_2").mkdir()
    (root / "training/label_2/000007.txt").write_text(
        "Car 0.00 0 -1.58 4.00 6.00 14.00 14.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
        "DontCare -1 -1 -10 20.50 1.00 30.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )


def objects365(root: Path) -> None:
    name = "images/v1/patch8/objects365_v1_00420917.jpg"
    write_photo(root / "val" / name)
    found = [{"id": 51, "image_id": 420917, "category_id": 84, "bbox": BOX, "area": 80.0, "iscrowd": 0, "isfake": 0}]
    raw = {
        "images": [{"id": 420917, "file_name": name, "license": 5, "url": "", **FACTS}],
        "annotations": found,
        "categories": [{"id": 84, "name": "Parking meter"}],
        "licenses": [{"id": 5, "name": "CC BY-SA"}],
    }
    write_json(root / "val/zhiyuan_objv2_val.json", raw)


def sa1b(root: Path) -> None:
    write_photo(root / "sa_000020/sa_223750.jpg")
    found = {"id": 9, "segmentation": rle(rectangle()), "bbox": BOX, "area": 80, "predicted_iou": 0.9}
    image = {"image_id": 223750, "file_name": "sa_223750.jpg", **FACTS}
    write_json(root / "sa_000020/sa_223750.json", {"image": image, "annotations": [found]})


def cityscapes(root: Path) -> None:
    """Two photos of a city each: road, void, two cars and a group of persons."""
    for number, city in enumerate(("frankfurt", "lindau")):
        stem = f"{city}/{city}_000000_000019"
        write_photo(root / f"leftImg8bit/val/{stem}_leftImg8bit.png", number)
        ids = painted(7, (26_000, BOX), (26_001, [20, 6, 5, 5]), (24, [30, 0, 10, 10]), (4, [0, 20, 40, 10]))
        write_png(root / f"gtFine/val/{stem}_gtFine_labelIds.png", np.where(ids >= 1000, ids // 1000, ids))
        write_png(root / f"gtFine/val/{stem}_gtFine_instanceIds.png", ids, "I;16")


def labels(root: Path) -> None:
    for number in range(2):
        write_photo(root / f"images/top/{number}.png", number)
        write_png(root / f"labels/top/{number}.png", painted(0, (2, BOX), (255, [0, 20, 40, 10])))
    (root / "classes.txt").write_text("impervious surface\nbuilding\ntree\n")


def ytvis(root: Path) -> None:
    """A video of two frames and two tracks, of which the second is absent from the first frame."""
    names = ["0043f083b5/00000.jpg", "0043f083b5/00005.jpg"]
    for number, name in enumerate(names):
        write_photo(root / "train/JPEGImages" / name, number)
    plain = {"size": [HEIGHT, WIDTH], "counts": [126, 8] + [22, 8] * 9 + [HEIGHT * WIDTH - 404]}
    both = {"video_id": 1, "iscrowd": 0, "category_id": 3, **FACTS}
    tracks = [
        {"id": 21, "segmentations": [plain, plain], "bboxes": [BOX, BOX], "areas": [80, 80], **both},
        {"id": 22, "segmentations": [None, plain], "bboxes": [None, BOX], "areas": [None, 80], **both},
    ]
    video = {"id": 1, "file_names": names, "length": 2, **FACTS}
    raw = {"videos": [video], "annotations": tracks, "categories": [{"id": 3, "name": "giant_panda"}]}
    write_json(root / "train/instances.json", raw)


def saliency(root: Path, photos: str, masks: str) -> None:
    for number, mask in enumerate((rectangle(), np.zeros((HEIGHT, WIDTH), bool))):
        write_photo(root / photos / f"{number:04d}.jpg", number)
        write_png(root / masks / f"{number:04d}.png", mask * 200 + 20)


def duts(root: Path) -> None:
    saliency(root, "DUTS-TE-Image", "DUTS-TE-Mask")


def ecssd(root: Path) -> None:
    saliency(root, "images", "ground_truth_mask")


BUILDERS: dict[str, Callable[[Path], None]] = {  # by the folder of `data/benchmarks` that they fill
    "coco": coco,
    "VOCdevkit": voc,
    "uvo": uvo,
    "kitti": kitti,
    "objects365": objects365,
    "sa1b": sa1b,
    "cityscapes": cityscapes,
    "labels": labels,
    "ytvis2019": ytvis,
    "DUTS-TE": duts,
    "ECSSD": ecssd,
}
