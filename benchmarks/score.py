"""Class-agnostic scores of masks and boxes, ours against plain pycocotools: time, memory, and that they are equal.

    python benchmarks/score.py                         5,000 photos of 640 x 480 px with 100 masks and 7 labels each
    python benchmarks/score.py --photos 1000 5000      also fewer, to see what memory does
    python benchmarks/score.py --ours-alone --photos 1250 2500 5000 10000
    python benchmarks/score.py --tasks                 instead, what semantic, panoptic and saliency scores hold

Drawing and writing the masks is apart: a minute for 5,000 photos, into a temporary folder. Each side then reads the
same files in a process of its own, one thread, and computes COCO's 12 numbers for masks and for boxes; ours reads photo
by photo. pycocotools takes two minutes and 2 GB for 5,000 photos. Without it all numbers of photos are read from one
set, the largest.

`--tasks` counts what Python and numpy allocate (tracemalloc) for photos of 64 x 64 px with up to 8 labels, 12
regions and 20 masks each: once all are seen, and at most while they are scored with 200 resamples.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from oapseg.evaluate import panoptic, saliency, semantic
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.merge import merge
from oapseg.evaluate.overlaps import Photo, find_overlaps
from oapseg.masks import mask_to_rle

WIDTH, HEIGHT = 640, 480
MASKS, LABELS, NEAR = 100, 7, 5  # a photo; predictions near each label, the others anywhere
RESAMPLES = 200
SMALL, DRAWN = (64, 64), 60  # px of the photos of `--tasks`, and how many different ones come in turns
CLASSES, CLUSTERS = 27, 128
STATS = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100"]
STATS += ["AR100_small", "AR100_medium", "AR100_large"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[5000])
    parser.add_argument("--ours-alone", action="store_true", help="leave pycocotools out")
    parser.add_argument("--tasks", action="store_true", help="what other scores than instances' hold, and no more")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "FOLDER", "PHOTOS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        side, folder, photos = args.child
        print(json.dumps({"ours": ours, "pycocotools": plain}[side](Path(folder), int(photos))))
        return
    console = Console(width=110)
    if args.tasks:
        console.print(tasks(args.photos))
        return
    load = os.getloadavg()[0]
    table = Table("photos", "", "wall s", "CPU s", "peak MB", "of which: CPU s, peak MB by then")
    sides = ["ours"] if args.ours_alone else ["ours", "pycocotools"]
    for photos, folder in folders(args.photos, each_its_own=not args.ours_alone):
        measured = {side: run(side, folder, photos) for side in sides}
        for side, each in measured.items():
            parts = "\n".join(f"{part}: {seconds:.1f}, {mb:.0f}" for part, (seconds, mb) in each["parts"].items())
            table.add_row(f"{photos:,}", side, *(f"{each[key]:.1f}" for key in ("wall", "cpu", "peak_mb")), parts)
        if not args.ours_alone:
            first, second = measured["ours"], measured["pycocotools"]
            ratios = [f"{second[key] / first[key]:.1f}" for key in ("wall", "cpu", "peak_mb")]
            apart = max(abs(first["scores"][name] - second["scores"][name]) for name in second["scores"])
            table.add_row("", "ratio", *ratios, f"{len(second['scores'])} numbers, at most {apart:.0e} apart")
            table.add_section()
    console.print(table)
    libraries = f"numpy {np.__version__}, pycocotools {version('pycocotools')}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} before"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, one thread a side, {libraries}")


def folders(counts: list[int], *, each_its_own: bool) -> Iterator[tuple[int, str]]:
    """Each number of photos, and a folder that holds as many, or more where one is for all."""
    for some in [[count] for count in counts] if each_its_own else [counts]:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), max(some))
            for count in some:
                yield count, folder


def run(side: str, folder: str, photos: int) -> dict[str, Any]:
    """One side in a process of its own, and what it took."""
    command = [sys.executable, __file__, "--child", side, folder, str(photos)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def ours(folder: Path, photos: int) -> dict[str, Any]:
    clock = Clock()
    overlaps = find_overlaps(islice(stream(folder), photos))
    clock.lap("reading and overlaps")
    num_photos = len(overlaps.image_ids)
    scores = score_class_agnostic(overlaps, np.zeros((0, num_photos), dtype=np.int64), 100)
    clock.lap("matching and scores")
    taken = clock.taken()
    score_class_agnostic(overlaps, resample_photos(num_photos, RESAMPLES, 0), 100)
    clock.lap(f"apart: {RESAMPLES} resamples")
    return taken | {"scores": {name: score.value for name, score in scores.items()}, "parts": clock.parts}


def plain(folder: Path, photos: int) -> dict[str, Any]:
    """COCOeval as its documentation calls it, on results read once, of all photos that there are."""
    clock = Clock()
    scores: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        truth = COCO(folder / "truth.json")
        if len(truth.imgs) != photos:
            raise ValueError(f"{folder}: {len(truth.imgs)} photos, not {photos}")
        results = json.loads((folder / "predictions.json").read_text())
        clock.lap("reading")
        for measure, coco_type, left_out in (("mask", "segm", "bbox"), ("box", "bbox", "segmentation")):
            kept = [{key: value for key, value in each.items() if key != left_out} for each in results]
            evaluation = COCOeval(truth, truth.loadRes(kept), coco_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            scores |= {f"{measure}_{name}": value for name, value in zip(STATS, evaluation.stats, strict=True)}
            clock.lap(f"{measure} scores")
    return clock.taken() | {"scores": scores, "parts": clock.parts}


def tasks(counts: list[int]) -> Table:
    """What the scores of each task hold of a photo, and their peak."""
    table = Table("photos", "task", "held, kB a photo", "peak, kB a photo", "peak MB")
    drawn = [small(number) for number in range(DRAWN)]
    for photos in counts:
        draws = resample_photos(photos, RESAMPLES, 0)
        for task in ("semantic", "panoptic", "saliency"):
            tracemalloc.start()
            seen = [see(task, *drawn[number % DRAWN]) for number in range(photos)]
            held = tracemalloc.get_traced_memory()[0]
            score(task, seen, draws)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            table.add_row(
                f"{photos:,}", task, f"{held / photos / 1e3:.1f}", f"{peak / photos / 1e3:.1f}", f"{peak / 1e6:.0f}"
            )
    return table


def see(task: str, labels: list[dict[str, Any]], results: list[dict[str, Any]]) -> Any:
    """What is kept of a photo for a task, as the step evaluate keeps it."""
    if task == "semantic":
        truth = semantic.true_classes({"panoptic": labels}, size=SMALL)
        counts = semantic.confusion(truth, semantic.predicted_clusters(results, SMALL, key="place"))
        return counts, semantic.renamed(counts, {each["place"]: each["category_id"] for each in results})
    if task == "panoptic":
        return panoptic.shared_segments(labels, merge(results, SMALL, min_score=0.5, max_overlap=0.5))
    return saliency.photo_saliency(labels, results, SMALL, min_score=0.5, min_area=0.07, min_ratio=0.3)


def score(task: str, seen: list[Any], draws: Int[np.ndarray, "R B"]) -> None:
    if task == "semantic":
        photos, order = [named for _, named in seen], list(range(CLASSES))
        to_class = semantic.fit_mapping(photos, order, "votes")
        semantic.score_semantic(semantic.class_pixels(photos, to_class, order), draws)
    elif task == "panoptic":
        classes = panoptic.classes_of([{"id": number, "isthing": number % 2} for number in range(CLASSES)])
        named = panoptic.fit_mapping(seen, classes, "votes")
        panoptic.score_panoptic(panoptic.quality_counts(seen, named, classes, min_stuff_px=20), classes, draws)
    else:
        saliency.score_saliency(seen, draws)


def small(number: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Labels and results of a small photo: rectangles over each other, which labels and regions see from above."""
    rng = np.random.default_rng(number)

    def rectangle() -> Bool[np.ndarray, "h w"]:
        (top, left), (height, width) = rng.integers(0, 56, 2), rng.integers(8, 40, 2)
        mask = np.zeros(SMALL, dtype=bool)
        mask[top : top + height, left : left + width] = True
        return mask

    def from_above(ground: int, count: int) -> list[Bool[np.ndarray, "h w"]]:
        names = np.full(SMALL, ground)
        for name in range(1, count + 1):
            names[rectangle()] = name
        return [names == name for name in np.unique(names) if name >= 0]

    def said(mask: Bool[np.ndarray, "h w"], categories: int, **more: Any) -> dict[str, Any]:
        rle = mask_to_rle(torch.from_numpy(mask))
        box = coco_mask.toBbox(rle).tolist()
        return {"category_id": int(rng.integers(categories)), "segmentation": rle, "bbox": box, "iscrowd": 0, **more}

    labels = [said(mask, CLASSES) for mask in from_above(-1, 8)]
    results = [said(rectangle(), CLUSTERS, kind="instance", score=float(rng.random())) for _ in range(20)]
    results += [said(mask, CLUSTERS, kind="region", score=1.0) for mask in from_above(0, 11)]
    return labels, [each | {"place": 40 * number + place} for place, each in enumerate(results)]


class Clock:
    """Time of this process by part, and its largest memory so far."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.cpu_start = self.cpu_last = time.process_time()
        self.parts: dict[str, tuple[float, float]] = {}

    def lap(self, part: str) -> None:
        now = time.process_time()
        self.parts[part] = (now - self.cpu_last, peak_mb())
        self.cpu_last = now

    def taken(self) -> dict[str, Any]:
        return {
            "wall": time.perf_counter() - self.start,
            "cpu": time.process_time() - self.cpu_start,
            "peak_mb": peak_mb(),
        }


def peak_mb() -> float:
    """Of this program: what `getrusage` says is the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def stream(folder: Path) -> Iterator[Photo]:
    """Photos one by one from a file with one mask a line, as the step evaluate writes it, and labels as shards hold."""
    with (folder / "labels.jsonl").open() as labels, (folder / "predictions.json").open() as lines:
        masks = (json.loads(line.rstrip(",\n")) for line in lines if len(line) > 3)
        for label, (image_id, group) in zip(
            map(json.loads, labels), groupby(masks, key=lambda each: each["image_id"]), strict=True
        ):
            if label["image"]["id"] != image_id:
                raise ValueError(f"{folder}: labels and predictions must come in one order")
            yield Photo(label["image"], label["annotations"], list(group))


def write(folder: Path, photos: int) -> None:
    """The same photos as labels by photo, as one COCO data set, and as results, one mask a line."""
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    with (folder / "labels.jsonl").open("w") as labels, (folder / "predictions.json").open("w") as results:
        for number in range(1, photos + 1):
            photo = draw(number)
            truth["images"].append(photo.image)
            truth["annotations"] += [
                each | {"id": len(truth["annotations"]) + place} for place, each in enumerate(photo.annotations, 1)
            ]
            labels.write(json.dumps({"image": photo.image, "annotations": photo.annotations}) + "\n")
            for each in photo.predictions:
                results.write(("[\n" if results.tell() == 0 else ",\n") + json.dumps(each))
        results.write("\n]\n")
    (folder / "truth.json").write_text(json.dumps(truth))


def draw(number: int) -> Photo:
    """Blobs with ragged edges: labels from small to large, predictions moved and stretched from them, and strays."""
    rng = np.random.default_rng(number)
    labels = place(rng, LABELS)
    near = np.repeat(labels, NEAR, axis=0)
    shift = rng.normal(0, 0.12, near.shape)
    near = near + shift * near[:, [2, 3, 2, 3]]
    whole = np.concatenate([near, place(rng, MASKS - len(near))])
    score = rng.random(MASKS) + np.concatenate([0.5 * np.exp(-8 * np.abs(shift).max(1)), np.zeros(MASKS - len(near))])
    annotations = [
        blob | {"image_id": number, "category_id": 1, "iscrowd": int(rng.random() < 0.02)}
        for blob in blobs(labels, rng)
    ]
    predictions = [
        {key: blob[key] for key in ("segmentation", "bbox")}
        | {"image_id": number, "category_id": 1, "score": round(float(value), 6), "kind": "instance"}
        for blob, value in zip(blobs(whole, rng), score, strict=True)
    ]
    return Photo({"id": number, "width": WIDTH, "height": HEIGHT}, annotations, predictions)


def place(rng: np.random.Generator, count: int) -> Float[np.ndarray, "S 4"]:
    """Centre and half axes of ellipses, from 5 to 200 px."""
    centre = rng.uniform((40, 40), (WIDTH - 40, HEIGHT - 40), (count, 2))
    return np.concatenate([centre, np.exp(rng.uniform(np.log(5), np.log(200), (count, 2)))], axis=1)


def blobs(ellipses: Float[np.ndarray, "S 4"], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Run lengths, box and area: an ellipse whose upper and lower edge waver by a few pixels in each column."""
    x, y, a, b = (column[:, None] for column in ellipses.T)
    columns = np.arange(WIDTH)[None]
    half = np.maximum(b, 3) * np.sqrt(np.maximum(1 - ((columns - x) / np.maximum(a, 3)) ** 2, 0))
    waver = rng.integers(-2, 3, (2, len(ellipses), WIDTH))
    top = np.clip(np.rint(y - half) + waver[0], 1, HEIGHT - 2).astype(int)
    bottom = np.clip(np.rint(y + half) + waver[1], 1, HEIGHT - 1).astype(int)
    found = []
    for each in range(len(ellipses)):
        inside = np.flatnonzero((half[each] > 0) & (bottom[each] > top[each]))
        if inside.size == 0:
            inside, top[each], bottom[each] = np.array([WIDTH // 2]), 1, HEIGHT // 2
        edges = np.stack([inside * HEIGHT + top[each, inside], inside * HEIGHT + bottom[each, inside]], 1).reshape(-1)
        counts = np.diff(np.concatenate([[0], edges, [WIDTH * HEIGHT]])).tolist()
        rle = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
        found.append(
            {
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
                "bbox": coco_mask.toBbox(rle).tolist(),
                "area": float(coco_mask.area(rle)),
            }
        )
    return found


if __name__ == "__main__":
    main()
