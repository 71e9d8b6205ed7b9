"""`oapseg predict` against the bare network, in one run: whole photos from disk to results, overlays and gallery.

    python benchmarks/predict.py MODEL PHOTOS [--photos N] [--bare N] [--task T] [--passes P]

MODEL is a folder, `s3://` URL or `models:/NAME@ALIAS`; PHOTOS a folder. Ours is all of the command but loading the
model. The limit is the network's forward alone, at the same precision and in the same batches, on the very views that
it gets in `predict` (the whole photo and its windows), decoded and resized before the clock starts; on `--bare` of the
photos, half of them before ours and half after, so that a machine that grows slower does so for both. Both by the wall
clock and by CPU time of all threads, which other work on the machine disturbs less; the best of `--passes`. A pass over
255 photos takes about four minutes on two cores.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from photos import caption
from rich.console import Console
from rich.table import Table
from torch import Tensor

from oapseg.checkpoint.model import Model, photo_tensor
from oapseg.encode.encoder import square
from oapseg.evaluate.predict import choose_device
from oapseg.model.windows import cut, window_boxes
from oapseg.params import Params, default_params_path, load_params
from oapseg.use.folder import OutFolder
from oapseg.use.photos import Files, Source, find_photos
from oapseg.use.predict import How, finish, predict_photos
from oapseg.use.resolved import load, resolve
from oapseg.use.tasks import TASKS, Layout


class Took(NamedTuple):
    wall_s: float
    cpu_s: float

    def over(self, photos: int) -> "Took":
        return Took(self.wall_s / photos, self.cpu_s / photos)


def timed(run: Callable[[], None]) -> Took:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    return Took(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def ours(source: Source, model: Model, how: How) -> Took:
    with tempfile.TemporaryDirectory() as out:
        folder = OutFolder(out, {"decided": {}})

        def run() -> None:
            for _ in predict_photos(source, model, how, folder):
                pass
            finish(folder, source, model.names, how, "benchmark", "")

        return timed(run)


def views(source: Files, model: Model, batch: int) -> Iterator[Tensor]:
    """What the network gets of each batch: the whole photos, then each window of theirs."""
    look, side = model.look, model.look.image_px
    for start in range(0, len(source), batch):
        images = [photo_tensor(location) for location in source.locations[start : start + batch]]
        yield torch.stack([square(image, side) for image in images])
        for box in window_boxes(look.windows, side):
            yield torch.stack([square(cut(image, box, side), look.window_px) for image in images])


@torch.no_grad()
def limit(source: Files, model: Model, how: How) -> Took:
    device = model.segmenter.backbone.encoder.mean.device

    def run(batch: Tensor) -> Took:
        ready = batch.to(device)
        return timed(lambda: forward(ready))

    def forward(batch: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bf16"):
            model.segmenter(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()

    took = [run(batch) for batch in views(source, model, how.batch)]
    return Took(*map(sum, zip(*took, strict=True)))


def some(source: Files, chosen: slice) -> Files:
    return Files(source.names[chosen], source.locations[chosen], source.image_ids[chosen], "", source.max_pixels)


def one_pass(source: Files, model: Model, how: How, bare: int) -> tuple[Took, Took]:
    """Of a photo: ours, and the limit."""
    half = -(-min(bare, len(source)) // 2)
    before = limit(some(source, slice(half)), model, how)
    whole = ours(source, model, how)
    after = limit(some(source, slice(-half, None)), model, how)
    return whole.over(len(source)), Took(*map(sum, zip(before, after, strict=True))).over(2 * half)


def how_of(params: Params, task: str) -> How:
    scores = params.evaluate
    min_score = scores.panoptic_score if task == "panoptic" else 0.0
    layout = Layout(min_score, scores.panoptic_overlap, scores.stuff_px)
    return How(task, layout, params.predict.batch, params.predict.precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=255)
    parser.add_argument("--bare", type=int, default=64, help="of them that the network alone sees (%(default)s)")
    parser.add_argument("--task", choices=TASKS, default="instance")
    parser.add_argument("--passes", type=int, default=1)
    args = parser.parse_args()
    load_before, params = os.getloadavg()[0], load_params(default_params_path())
    model = load(resolve(args.model, params), params, choose_device(params.predict.device).type)
    found = find_photos([str(args.folder)], "nowhere", params.shards.max_pixels)
    assert isinstance(found, Files)
    source, how = some(found, slice(args.photos)), how_of(params, args.task)
    limit(some(source, slice(how.batch)), model, how)  # to warm up
    rounds = [one_pass(source, model, how, args.bare) for _ in range(args.passes)]
    best = [Took(*map(min, zip(*each, strict=True))) for each in zip(*rounds, strict=True)]
    table = Table(
        title=f"{len(source)} photos, task {args.task}, {torch.get_num_threads()} threads ({caption(load_before)})"
    )
    for heading in ("", "wall, photos/s", "CPU, ms a photo"):
        table.add_column(heading, justify="right")
    for name, took in zip(("ours", "the network alone"), best, strict=True):
        table.add_row(name, f"{1 / took.wall_s:.2f}", f"{1000 * took.cpu_s:.0f}")
    table.add_row("ours by the limit", *(f"{mine / least:.2f} x the time" for mine, least in zip(*best, strict=True)))
    table.add_row("memory at the most", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB", "")
    Console().print(table)


if __name__ == "__main__":
    main()
