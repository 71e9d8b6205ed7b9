"""How a benchmark's classes are made of a source's categories."""

from collections.abc import Mapping
from typing import NamedTuple

from oapseg.shards.datasets import cityscapes, coco_stuff


class ClassMap(NamedTuple):
    """Classes by their places, and the place of each category id; a category that is not in it is void."""

    names: tuple[str, ...]
    isthing: tuple[bool, ...]
    of: Mapping[int, int]


THINGS_12 = (
    "electronic-things", "appliance-things", "food-things", "furniture-things", "indoor-things", "kitchen-things",
    "accessory-things", "animal-things", "outdoor-things", "person-things", "sports-things", "vehicle-things",
)  # fmt: skip
STUFF_15 = (
    "ceiling-stuff", "floor-stuff", "food-stuff", "furniture-stuff", "rawmaterial-stuff", "textile-stuff", "wall-stuff",
    "window-stuff", "building-stuff", "ground-stuff", "plant-stuff", "sky-stuff", "solid-stuff", "structural-stuff",
    "water-stuff",
)  # fmt: skip
COARSE_27 = THINGS_12 + STUFF_15  # in the order that IIC, PiCIE and STEGO have
NOT_IN_COCO = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})  # of the 91 thing ids, those without a photo
MERGED_STUFF = {  # COCO's panoptic categories above 182, which join several of COCO-Stuff's
    184: "plant-stuff", 185: "structural-stuff", 186: "ceiling-stuff", 187: "sky-stuff", 188: "furniture-stuff",
    189: "furniture-stuff", 190: "floor-stuff", 191: "ground-stuff", 192: "solid-stuff", 193: "plant-stuff",
    194: "ground-stuff", 195: "rawmaterial-stuff", 196: "food-stuff", 197: "building-stuff", 198: "solid-stuff",
    199: "wall-stuff", 200: "textile-stuff",
}  # fmt: skip
CITYSCAPES_19 = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # the benchmark's label ids


def _coco_stuff27() -> ClassMap:
    places = {number: COARSE_27.index(coarse) for number, coarse in enumerate(coco_stuff.COARSE, 1)}
    return ClassMap(COARSE_27, tuple(name in THINGS_12 for name in COARSE_27), places)


def _coco_u2seg() -> ClassMap:
    """COCO's 80 things, and its stuff by the 15 supercategories that U2Seg scores."""
    ids = [number for number in range(1, coco_stuff.LAST_THING + 1) if number not in NOT_IN_COCO]
    names = (*(coco_stuff.NAMES[number - 1] for number in ids), *STUFF_15)
    fine = {number: coarse for number, coarse in enumerate(coco_stuff.COARSE, 1) if coarse in STUFF_15}
    stuff = {number: len(ids) + STUFF_15.index(coarse) for number, coarse in (fine | MERGED_STUFF).items()}
    return ClassMap(
        names, tuple(name not in STUFF_15 for name in names), {**dict(zip(ids, range(80), strict=True)), **stuff}
    )


def _cityscapes(ids: tuple[int, ...]) -> ClassMap:
    chosen = [category for category in cityscapes.CATEGORIES if category["id"] in ids]
    return ClassMap(
        tuple(category["name"] for category in chosen),
        tuple(bool(category["isthing"]) for category in chosen),
        {category["id"]: place for place, category in enumerate(chosen)},
    )


CLASS_MAPS: dict[str, ClassMap] = {
    "coco_stuff27": _coco_stuff27(),
    "coco_u2seg": _coco_u2seg(),
    "cityscapes27": _cityscapes(tuple(category["id"] for category in cityscapes.CATEGORIES)),
    "cityscapes19": _cityscapes(CITYSCAPES_19),
}
