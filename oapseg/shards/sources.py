"""The layouts that people's photos come in: what lies where, with which labels. Nothing is decoded here."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from oapseg.params import BenchmarkParams, SetParams, Source
from oapseg.shards.coco import list_coco
from oapseg.shards.datasets.cityscapes import list_cityscapes
from oapseg.shards.datasets.coco_form import list_coco_json, list_lvis
from oapseg.shards.datasets.coco_stuff import list_coco_stuff
from oapseg.shards.datasets.folders import list_labels, list_saliency
from oapseg.shards.datasets.kitti import list_kitti
from oapseg.shards.datasets.sa1b import list_sa1b
from oapseg.shards.datasets.voc import list_voc
from oapseg.shards.datasets.youtube_vis import list_ytvis
from oapseg.shards.listing import Item, Listing, MissingData, existing_folder, holds, keep_listed, photo_names

TAR_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
TAR_LABELS = (  # what our own shards carry on
    "image_id", "licence", "instances", "panoptic", "semantic", "video", "class", "neg_category_ids",
    "not_exhaustive_category_ids",
)  # fmt: skip
TASK_LABELS: Final = {  # kinds of labels, each of which a task can be scored against
    "instance": {"instances"},
    "semantic": {"semantic", "panoptic"},
    "panoptic": {"panoptic"},
    "saliency": {"instances"},
}


def list_set(params: SetParams, root: str | None = None) -> list[Listing]:
    """The sources of a set, below its root or another that stands for it.

    Errors: `ValueError` where a folder is missing or holds no photo, naming what is there.
    """
    return [list_source(source, root or params.root) for source in params.sources]


def list_benchmark(name: str, benchmark: BenchmarkParams, root: str | None = None) -> list[Listing]:
    """The sources of a benchmark, below its root or another that stands for it.

    Errors: `MissingData` says in one line what to put where; `ValueError` where what is there contradicts itself.
    """
    root = root or benchmark.root
    listings = []
    for source in benchmark.sources:
        try:
            listings.append(list_source(source, root))
            _check_labels(listings[-1], benchmark, Path(root) / source.path)
        except MissingData as error:
            wanted = LAYOUTS[source.kind].wanted.format_map(source.model_dump())
            lists = f", and the list {Path(root, source.only)}" if source.only else ""
            place = Path(root) / source.path
            raise MissingData(f"benchmarks.{name}: {error}; put into {place}: {wanted}{lists}") from None
        except ValueError as error:
            raise ValueError(f"benchmarks.{name}: {error}") from None
    return listings


def _check_labels(listing: Listing, benchmark: BenchmarkParams, folder: Path) -> None:
    """Photos without any label that a task is scored against are as good as missing."""
    kinds = {kind for item in listing.items for kind in item.label_kinds}
    for task in benchmark.tasks:
        if not kinds & TASK_LABELS[task]:
            raise MissingData(f"{folder}: photos, but no {' or '.join(sorted(TASK_LABELS[task]))} labels of any")


def list_source(source: Source, root: str) -> Listing:
    """The photos of one source."""
    folder = existing_folder(Path(root) / source.path)
    listing = LAYOUTS[source.kind].read(folder, source)
    if not listing.items:
        raise MissingData(f"{folder}: no photo for a source of kind {source.kind}; {holds(folder)}")
    return keep_listed(listing, Path(root) / source.only) if source.only else listing


def _list_photos(folder: Path, source: Source) -> Listing:
    """A plain folder."""
    items = [Item(name, str(folder / name)) for name in photo_names(folder)]
    return Listing("photos", f"photos of {source.path}", items)


def _list_classes(folder: Path, source: Source) -> Listing:
    """One folder a class, as ImageNet has it; a class's id is its place among the sorted names."""
    del source
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    items = [
        Item(f"{name}/{photo}", str(folder / name / photo), labels={"class": {"id": number, "name": name}})
        for number, name in enumerate(classes)
        for photo in photo_names(folder / name)
    ]
    return Listing("classes", f"{len(classes)} classes of {folder.name}", items)


def _list_tars(folder: Path, source: Source) -> Listing:
    """Tar shards of WebDataset naming: a photo, and `.json` of ours or `.cls` beside it."""
    del source
    tars = sorted(folder.glob("*.tar"))
    items = [item for tar in tars for item in _tar_items(tar)]
    return Listing("tar", f"{len(tars)} tar shards of {folder.name}", items)


def _tar_items(path: Path) -> Iterator[Item]:
    photos: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, suffix = _key_and_suffix(member.name)
                if not member.isfile():
                    continue
                if suffix in TAR_SUFFIXES:
                    photos[key] = member
                elif suffix in (".json", ".cls"):
                    content = (tar.extractfile(member) or io.BytesIO()).read()
                    labels.setdefault(key, {}).update(_tar_labels(content, suffix))
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{path}: not a whole tar ({error})") from None
    for key, member in photos.items():
        span = (member.offset_data, member.size)
        yield Item(f"{path.name}/{member.name}", str(path), span, labels.get(key, {}))


def _key_and_suffix(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def _tar_labels(content: bytes, suffix: str) -> dict[str, Any]:
    """Labels of a foreign shard are taken where they are of our form, and left out where they are not."""
    try:
        if suffix == ".cls":
            return {"class": {"id": int(content), "name": content.decode().strip()}}
        found = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(found, dict) or "source" not in found:
        return {}
    return {key: found[key] for key in TAR_LABELS if key in found}


class Layout(NamedTuple):
    read: Callable[[Path, Source], Listing]
    wanted: str  # what a source's folder holds; names in braces are the source's


LAYOUTS: Final[dict[str, Layout]] = {
    "coco": Layout(
        list_coco, "images/{split}/*.jpg, annotations/instances_{split}.json, panoptic_{split}.json and PNGs"
    ),
    "classes": Layout(_list_classes, "a folder of photos a class"),
    "photos": Layout(_list_photos, "photos, in folders or not"),
    "tar": Layout(_list_tars, "*.tar of WebDataset naming"),
    "coco_json": Layout(list_coco_json, "{labels} (COCO form) and the photos that it names below {photos}"),
    "lvis": Layout(list_lvis, "lvis_v1_{split}.json, and COCO's train2017/*.jpg and val2017/*.jpg"),
    "voc": Layout(
        list_voc,
        "a year of VOCdevkit: JPEGImages/*.jpg, Annotations/*.xml, ImageSets/{{Main,Segmentation}}/*.txt, "
        "SegmentationClass/*.png, SegmentationObject/*.png",
    ),
    "kitti": Layout(list_kitti, "training/image_2/*.png and training/label_2/*.txt"),
    "sa1b": Layout(list_sa1b, "sa_*.jpg with sa_*.json beside each"),
    "stuff": Layout(list_coco_stuff, "images/{split}/*.jpg and stuffthingmaps/{split}/*.png"),
    "cityscapes": Layout(
        list_cityscapes,
        "leftImg8bit/{split}/CITY/*_leftImg8bit.png, "
        "gtFine/{split}/CITY/*_gtFine_instanceIds.png or *_gtFine_labelIds.png",
    ),
    "labels": Layout(list_labels, "photos in {photos}, PNGs of class ids of the same names in {labels}"),
    "saliency": Layout(list_saliency, "photos in {photos}, masks of the same names in {labels}"),
    "ytvis": Layout(list_ytvis, "{labels} and the frames {photos}/VIDEO/*.jpg"),
}
