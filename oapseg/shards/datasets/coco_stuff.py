"""COCO-Stuff: a PNG of 182 classes for each photo of COCO 2017."""

from pathlib import Path

from oapseg.params import Source
from oapseg.shards.label_pictures import read_semantic
from oapseg.shards.listing import Category, Item, LabelFile, Listing, existing_folder, numbered, photo_names

VOID = 255
LAST_THING = 91
_LINES = [line.split("\t") for line in Path(__file__).with_name("coco_stuff.txt").read_text().splitlines()]
NAMES = tuple(name for name, _ in _LINES)  # of the classes 1 to 182, which a PNG shows as 0 to 181
COARSE = tuple(coarse for _, coarse in _LINES)  # the class of 27 that each belongs to
CATEGORIES: tuple[Category, ...] = tuple(
    {"id": number, "name": name, "isthing": int(number <= LAST_THING)} for number, name in enumerate(NAMES, 1)
)
BY_VALUE: dict[int, Category | None] = {VOID: None, **{category["id"] - 1: category for category in CATEGORIES}}


def list_coco_stuff(folder: Path, source: Source) -> Listing:
    """The photos of `images/<split>/` or `<split>/`, with the PNGs of `stuffthingmaps/<split>/` or
    `annotations/<split>/`; a photo without one is left out.
    """
    split = str(source.split)
    photos = existing_folder(folder / "images" / split, folder / split)
    pngs = existing_folder(folder / "annotations" / split, folder / "stuffthingmaps" / split)
    names = photo_names(photos)
    labelled = [name for name in names if (pngs / Path(name).with_suffix(".png")).is_file()]
    items = [
        Item(
            name,
            str(photos / name),
            labels=numbered(name),
            label_files=(
                LabelFile("semantic", read_semantic, (str(pngs / Path(name).with_suffix(".png")),), BY_VALUE),
            ),
        )
        for name in labelled
    ]
    left_out = len(names) - len(labelled)
    description = f"COCO-Stuff split {split}" + (f", {left_out} photos without labels left out" if left_out else "")
    return Listing("stuff", description, items, CATEGORIES)
