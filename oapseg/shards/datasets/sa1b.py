"""SA-1B: photos `sa_<id>.jpg` with a JSON of their masks beside each."""

import json
from collections.abc import Mapping
from pathlib import Path

from oapseg.params import Source
from oapseg.shards.listing import Category, Item, LabelFile, Labels, Listing, final_number, photo_names
from oapseg.shards.upright import BrokenPhoto

OBJECT: Category = {"id": 1, "name": "object", "isthing": 1}  # its masks have no classes


def list_sa1b(folder: Path, source: Source) -> Listing:
    """Photos at any depth; the JSON files, one a photo, are opened where the photo is."""
    del source
    items = [
        Item(
            name,
            str(folder / name),
            labels={"image_id": final_number(name)},
            stated_in=Path(name).with_suffix(".json").name,
            label_files=(
                LabelFile("instances", read_masks, (str((folder / name).with_suffix(".json")),), {1: OBJECT}),
            ),
        )
        for name in photo_names(folder)
        if Path(name).name.startswith("sa_") and final_number(name) is not None
    ]
    return Listing("sa1b", f"SA-1B {folder.name}", items, (OBJECT,))


def read_masks(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """The masks of a photo's JSON, all of one category."""
    del categories
    name = Path(paths[0]).name
    try:
        raw = json.loads(Path(paths[0]).read_bytes())
        image = raw["image"]
        found = [{**annotation, "category_id": OBJECT["id"]} for annotation in raw["annotations"]]
        stated = (image["width"], image["height"])
    except FileNotFoundError:
        raise BrokenPhoto(f"{name}: no such file of masks") from None
    except (ValueError, KeyError, TypeError):
        raise BrokenPhoto(f"{name}: not a JSON of SA-1B's form") from None
    if image.get("image_id") != labels["image_id"]:
        raise BrokenPhoto(f"{name}: masks of image {image.get('image_id')!r}, the photo is {labels['image_id']}")
    if stated != size:
        raise BrokenPhoto(f"{name}: {stated[0]} x {stated[1]} px, the photo has {size[0]} x {size[1]}")
    return {"instances": found}
