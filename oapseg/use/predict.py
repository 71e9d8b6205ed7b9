"""Photos to predictions in a folder: read ahead, seen in batches, described and drawn behind, written part by part."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import torch

from oapseg import storage
from oapseg.checkpoint.model import Model
from oapseg.model.predicted import Predicted
from oapseg.params import Precision
from oapseg.report.gallery import Entry, render_gallery
from oapseg.report.masks_command import GALLERY_BYTES, GALLERY_PHOTOS, broken_names, shrunk
from oapseg.report.photos import spread
from oapseg.shards.upright import BrokenPhoto
from oapseg.storage import s3
from oapseg.use import pictures, tasks
from oapseg.use.folder import OutFolder, listed, write_texts
from oapseg.use.photos import Shot, Source

BATCHES_A_PART = 4
WORKERS = min(8, max(2, os.cpu_count() or 2))  # threads that read, and as many that describe

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class How:
    """What is made of the photos, and how many are seen at a time."""

    task: str
    layout: tasks.Layout  # its `min_score` is of instances too
    batch: int
    precision: Precision


class Seen(NamedTuple):
    """A photo by its number with what the model saw in it, or why it cannot be read."""

    number: int
    shot: Shot | None
    predicted: Predicted | None
    broken: str = ""


class Described(NamedTuple):
    """What goes into a part's record of one photo; its pictures are written."""

    number: int
    image: dict[str, Any] | None
    results: list[dict[str, Any]]
    broken: str
    entry: Entry | None


def predict_photos(source: Source, model: Model, how: How, folder: OutFolder) -> Iterator[int]:
    """Make every part that is not there yet; the number of photos done, first of those that were there already.

    Memory does not grow with the number of photos. A part is of the same batches whenever it is made, so a run that is
    killed and goes on gives the bytes of one that is not.
    """
    part_photos = how.batch * BATCHES_A_PART
    done = folder.done()
    parts = [part for part in range(num_parts(source, how)) if part not in done]
    spans = [range(part * part_photos, min((part + 1) * part_photos, len(source))) for part in parts]
    num_done = len(source) - sum(map(len, spans))
    yield num_done
    shown = set(spread(GALLERY_PHOTOS, len(source)))

    def read(number: int) -> Seen:
        try:
            return Seen(number, source.read(number), None)
        except BrokenPhoto as error:
            return Seen(number, None, None, str(error))

    def describe(seen: Seen) -> Described:
        return described(seen, model.names, how, folder, in_gallery=seen.number in shown, num_shown=len(shown))

    photos = ahead(read, chain.from_iterable(spans), 2 * how.batch)
    ready = ahead(describe, _seen(photos, model, how), 2 * how.batch)
    for part, span in zip(parts, spans, strict=True):
        found = []
        for each in islice(ready, len(span)):
            found.append(each)
            num_done += 1
            yield num_done
        folder.write_part(part, _record(found, source))


def num_parts(source: Source, how: How) -> int:
    return -(-len(source) // (how.batch * BATCHES_A_PART))


def described(
    seen: Seen, names: tasks.Names, how: How, folder: OutFolder, *, in_gallery: bool, num_shown: int
) -> Described:
    """Results of one photo; its pictures are written on the way, before the record that says they are there."""
    if seen.shot is None or seen.predicted is None:
        return Described(seen.number, None, [], seen.broken, None)
    shot, predicted = seen.shot, seen.predicted
    height, width = shot.image.shape[:2]
    image = {"id": shot.image_id, "file_name": shot.name, "width": width, "height": height}
    photo = shrunk(shot.image)
    size = (photo.shape[0], photo.shape[1])
    if how.task == "instance":
        results = tasks.instances(shot.image_id, predicted, names, how.layout.min_score)
        drawn = pictures.drawn_instances(predicted, names, how.layout.min_score, size)
        what = f"{len(drawn.labels)} of {len(results)} masks: the best that are unlike"
    else:
        is_semantic = how.task == "semantic"
        found = tasks.semantic(predicted, names) if is_semantic else tasks.panoptic(predicted, names, how.layout)
        file_name = f"{shot.stem}.png"
        storage.write_bytes(folder.path(f"{how.task}/{file_name}"), tasks.id_png(found.segments))
        results = [{"image_id": shot.image_id, "file_name": file_name, "segments_info": found.infos}]
        drawn = pictures.drawn_segments(found, names, size, by_cluster=is_semantic)
        things = sum(info["isthing"] for info in found.infos)
        what = (
            f"clusters: {len(found.infos)}" if is_semantic else f"things: {things}, stuff: {len(found.infos) - things}"
        )
    three = pictures.panels(photo, drawn, what)
    link = f"overlays/{shot.stem}.jpg"
    storage.write_bytes(folder.path(link), pictures.picture(three))
    limit = GALLERY_BYTES // num_shown
    entry = pictures.entry(shot.name, link, (height, width), three, limit) if in_gallery else None
    return Described(seen.number, image, results, "", entry)


def finish(folder: OutFolder, source: Source, names: tasks.Names, how: How, title: str, said: str) -> list[str]:
    """One file of all parts' records, a gallery, and the index that says that all is there; a summary in lines.

    Errors: `ValueError` where not one photo could be read; nothing stays behind.
    """
    count = num_parts(source, how)
    if not folder.finished:
        failed = {name: why for record in folder.records(count) for name, why in record["failed"].items()}
        if len(failed) == len(source):
            folder.remove()
            raise ValueError(f"none of {len(source)} photos can be read: {broken_names(failed)}")
        _write_results(folder, count, names, how)
        storage.write_json(folder.path("failed.json"), failed)
        entries = [pictures.from_json(each) for record in folder.records(count) for each in record["entries"]]
        found = {"photos": len(source) - len(failed), "failed": len(failed), "results": _count(folder, count, how)}
        lines = summary(found, failed, len(entries), how)
        page = render_gallery(title, [f"{lines[0]} {said}", *lines[1:]], entries)
        storage.write_text(folder.path("index.html"), page)
        folder.finish({"found": found})
    failed = storage.read_json(folder.path("failed.json"))
    return summary(folder.said["found"], failed, folder.said["found"]["photos"], how)


def summary(found: dict[str, int], failed: dict[str, str], in_gallery: int, how: How) -> list[str]:
    """What was found, in a line or three."""
    what = "instance masks" if how.task == "instance" else "segments"
    photos = found["photos"]
    lines = [f"{photos:,} photo{'s' * (photos != 1)} with {found['results']:,} {what}."]
    if failed:
        lines.append(f"{len(failed):,} broken and skipped: {broken_names(failed)}.")
    if in_gallery < photos:
        lines.append(f"The gallery shows {in_gallery:,} photos, spread evenly; overlays/ holds all.")
    return lines


def ahead(function: Callable[[A], B], items: Iterable[A], waiting: int) -> Iterator[B]:
    """`function` of each item, in order, by threads that are up to `waiting` items ahead of who takes them."""
    return s3.in_parallel(function, items, WORKERS, waiting=waiting, begin=lambda: torch.set_num_threads(1))


def _seen(photos: Iterator[Seen], model: Model, how: How) -> Iterator[Seen]:
    """Photos with what the model sees in them, a batch at a time; broken ones pass by."""
    device = model.segmenter.backbone.encoder.mean.device
    while some := list(islice(photos, how.batch)):
        images = [each.shot.image for each in some if each.shot is not None]
        with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bf16"):
            predicted = iter(list(model.predict(images, batch=len(images))) if images else [])
        for each in some:
            yield each if each.shot is None else each._replace(predicted=next(predicted))


def _record(found: list[Described], source: Source) -> dict[str, Any]:
    return {
        "images": [each.image for each in found if each.image is not None],
        "results": [result for each in found for result in each.results],
        "failed": {source.name(each.number): each.broken for each in found if each.image is None},
        "entries": [pictures.as_json(each.entry) for each in found if each.entry is not None],
    }


def _write_results(folder: OutFolder, count: int, names: tasks.Names, how: How) -> None:
    """COCO's files of all parts: results and the photos they are of, or both in one of the panoptic format."""

    def texts(key: str) -> Iterator[str]:
        return listed(json.dumps(each, allow_nan=False) for part in folder.records(count) for each in part[key])

    if how.task == "instance":
        write_texts(folder.path("images.json"), chain(texts("images"), ["\n"]))
        write_texts(folder.path("masks.json"), chain(texts("results"), ["\n"]))
        return
    kinds = listed(json.dumps(each) for each in tasks.categories(names, how.task))
    parts = [['{"images": '], texts("images"), [',\n"annotations": '], texts("results"), [',\n"categories": '], kinds]
    write_texts(folder.path(f"{how.task}.json"), chain(*parts, ["}\n"]))


def _count(folder: OutFolder, count: int, how: How) -> int:
    """Masks, or segments of all photos."""
    results = (each for record in folder.records(count) for each in record["results"])
    return sum(1 if how.task == "instance" else len(each["segments_info"]) for each in results)
