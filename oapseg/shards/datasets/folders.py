"""A folder of photos beside a folder of label pictures of the same names: class ids (Potsdam), or saliency masks."""

from pathlib import Path

from oapseg.params import Source
from oapseg.shards.label_pictures import found_classes, read_foreground, read_semantic
from oapseg.shards.listing import Category, Item, LabelFile, Listing, existing_folder, photo_names

VOID = 255
CLASSES = "classes.txt"
FOREGROUND: Category = {"id": 1, "name": "foreground", "isthing": 1}


def list_labels(folder: Path, source: Source) -> Listing:
    """The photos of the folder `photos` with the class ids of the pictures in the folder `labels`; 255 is void.

    `classes.txt` in the source's folder names the classes from 0 on, a line each; without it the classes are those
    that any picture shows.
    """
    pairs = _pairs(folder, source)
    names = folder / CLASSES
    if names.is_file():
        classes = dict(enumerate(name.strip() for name in names.read_text().splitlines() if name.strip()))
    else:
        found = found_classes([label for _, _, label in pairs])
        classes = {value: f"class {value}" for value in found if value != VOID}
    categories: tuple[Category, ...] = tuple(
        {"id": value, "name": name, "isthing": 0} for value, name in classes.items()
    )
    by_value: dict[int, Category | None] = {**{category["id"]: category for category in categories}, VOID: None}
    items = [
        Item(name, photo, label_files=(LabelFile("semantic", read_semantic, (label,), by_value),))
        for name, photo, label in pairs
    ]
    return Listing("labels", f"photos of {source.photos}, classes of {source.labels}", items, categories)


def list_saliency(folder: Path, source: Source) -> Listing:
    """The photos of the folder `photos`; the white of the pictures in the folder `labels` is one instance each."""
    items = [
        Item(name, photo, label_files=(LabelFile("instances", read_foreground, (label,), {1: FOREGROUND}),))
        for name, photo, label in _pairs(folder, source)
    ]
    return Listing("saliency", f"photos of {source.photos}, masks of {source.labels}", items, (FOREGROUND,))


def _pairs(folder: Path, source: Source) -> list[tuple[str, str, str]]:
    """Name, path and label picture of every photo. Errors: `ValueError` names the first photo without a picture."""
    photos, labels = (existing_folder(folder / str(name)) for name in (source.photos, source.labels))
    pictures = {Path(name).with_suffix(""): name for name in photo_names(labels)}
    names = photo_names(photos)
    for name in names:
        if Path(name).with_suffix("") not in pictures:
            raise ValueError(f"{labels}: no label picture {Path(name).stem}.png for the photo {name}")
    return [(name, str(photos / name), str(labels / pictures[Path(name).with_suffix("")])) for name in names]
