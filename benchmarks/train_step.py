"""Time of one pretraining step by part, at the sizes of params.yaml, and how far it is from its limit.

    python benchmarks/train_step.py                                   the embedded sample, drawn on the way
    python benchmarks/train_step.py --shards FOLDER --encoder FOLDER  any shards, any encoder of the step encoder

The limit is the student alone, forward and backward on views that lie in memory: what a step would take if loading,
teacher, pooling, matching, losses, optimizer and EMA were free. Parts are timed where the step calls them, in steps of
their own: the total and the limit come from steps without a clock inside.
"""

import argparse
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from oapseg.encode.load import load_encoder, load_folder
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, SampleParams, default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import load_manifest
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set
from oapseg.train import segmenter
from oapseg.train.data import ToViews, batches
from oapseg.train.distributed import place
from oapseg.train.segmenter import SegmenterTraining, to_unit

WARM_UP = 2  # steps; the first ones start the loader and fill caches
PHOTOS = 64  # of the embedded sample
PARTS = ("loader", "teacher", "pool", "student", "match", "loss", "backward", "optimizer, EMA")


class Clock:
    """Seconds by part of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = function(*args, **kwargs)
            self.seconds[part] += self.now() - start
            return result

        return call


def pretraining(params: Params, shards: str, encoder_folder: Path | None) -> SegmenterTraining:
    """The task that the step pretrain trains."""
    settings, manifest = params.pretrain, load_manifest(shards)
    placement = place(settings.device, settings.precision, "pretrain")
    encoder = load_encoder(params.encode) if encoder_folder is None else load_folder(encoder_folder)
    torch.manual_seed(params.seed)
    return SegmenterTraining(
        "pretrain",
        settings,
        Segmenter(encoder, params.model),
        OAP(**params.pool.oap),
        batches(
            [(manifest, 1.0)],
            ToViews(settings, params.seed),
            settings,
            placement,
            seed=params.seed,
            section="pretrain",
        ),
        manifest.num_samples / settings.batch,
        placement,
        seed=params.seed,
    )


def step_times(task: SegmenterTraining, clock: Clock, steps: Iterator[int], count: int) -> list[float]:
    times = []
    for step in islice(steps, count):
        start = clock.now()
        task.step(step)
        times.append(clock.now() - start)
    return times


def put_clock_inside(task: SegmenterTraining, clock: Clock) -> None:
    """Every part of a step, replaced where the step looks it up by the same with a clock around it."""
    batches = task._batches
    assert batches is not None  # the steps without a clock have been taken
    task._batches = iter(clock.timed("loader", lambda: next(batches)), None)
    task.generator = SimpleNamespace(batch=clock.timed("pool", task.generator.batch))
    parts: list[tuple[str, object, str]] = [
        ("teacher", task.teacher.backbone, "keys"),
        ("teacher", task.teacher, "feature_logits"),
        ("student", task.student, "forward"),
        ("match", task, "_targets"),
        ("match", segmenter, "_match_layer"),
        ("loss", task, "_losses"),
        ("backward", torch.Tensor, "backward"),
        ("optimizer, EMA", nn.utils, "clip_grad_norm_"),
        ("optimizer, EMA", task.optimizer, "step"),
        ("optimizer, EMA", segmenter, "follow"),
        ("optimizer, EMA", task.centre, "update"),
    ]
    for part, owner, name in parts:
        setattr(owner, name, clock.timed(part, getattr(owner, name)))


def limit_times(task: SegmenterTraining, clock: Clock, count: int) -> list[float]:
    """The student alone, forward and backward, on the views of one step."""
    views = next(task.batches_from(0))
    local = to_unit(torch.cat([view.local for view in views]).to(clock.device))
    times = []
    for _ in range(WARM_UP + count):
        start = clock.now()
        with task.placement.autocast():
            predictions = task.student(local)
        sum(each.mask_logits.float().mean() + each.objectness.float().mean() for each in predictions).backward()
        task.student.zero_grad(set_to_none=True)
        times.append(clock.now() - start)
    return times[WARM_UP:]


def measure(params: Params, shards: str, encoder_folder: Path | None, count: int) -> Table:
    task = pretraining(params, shards, encoder_folder)
    clock = Clock(task.placement.device)
    limit = median(limit_times(task, clock, count))
    steps = iter(range(WARM_UP + 2 * count))
    total = median(step_times(task, clock, steps, WARM_UP + count)[WARM_UP:])
    put_clock_inside(task, clock)
    inside = sum(step_times(task, clock, steps, count)) / count
    parts = {part: clock.seconds[part] / count for part in PARTS}
    parts["rest"] = inside - sum(parts.values())

    table = Table("part", "ms a step", "share", title=f"{params.pretrain.batch / total:.2f} photos/s")
    for part, seconds in parts.items():
        table.add_row(part, f"{1000 * seconds:.0f}", f"{100 * seconds / inside:.1f} %")
    table.add_section()
    table.add_row("whole step", f"{1000 * total:.0f}", "")
    table.add_row("limit: student forward and backward alone", f"{1000 * limit:.0f}", f"{100 * limit / total:.1f} %")
    table.add_row("ratio, step to limit", f"{total / limit:.2f}", "")
    table.add_row("ratio, step to pooling", f"{inside / parts['pool']:.0f}", "")
    return table


def sample_shards(params: Params, folder: Path) -> str:
    """Shards of a small embedded sample."""
    size = SampleParams(train=PHOTOS, val=1, size_px=params.sample.size_px)
    make_sample(str(folder / "sample"), size, seed=params.seed, workers=params.shards.workers)
    listed = list_set(params.shards.sets["pretrain"], str(folder / "sample"))
    write_set(
        listed,
        folder / "shards",
        samples_per_shard=params.shards.samples_per_shard,
        max_broken=0.0,
        max_pixels=params.shards.max_pixels,
        workers=1,
    )
    return str(folder / "shards")


def caption(params: Params, device: torch.device) -> str:
    """What a figure needs beside it to be compared with another."""
    settings = params.pretrain
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{where}, torch {torch.__version__}, {settings.precision}; batch {settings.batch}, teacher at "
        f"{settings.image_px} px, {settings.local_count} views a photo at {settings.local_px} px, {settings.workers} "
        "loader processes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default=str(default_params_path()))
    parser.add_argument("--shards", help="shards to train on; without them, the embedded sample")
    parser.add_argument("--encoder", type=Path, help="folder of an encoder; without it, the one that params.yaml names")
    parser.add_argument("--steps", type=int, default=10, help="steps a measurement")
    args = parser.parse_args()
    params = load_params(args.params)
    with tempfile.TemporaryDirectory() as temporary:
        shards = args.shards or sample_shards(params, Path(temporary))
        table = measure(params, shards, args.encoder, args.steps)
    console = Console()
    console.print(table)
    console.print(
        caption(params, place(params.pretrain.device, params.pretrain.precision, "pretrain").device), highlight=False
    )


if __name__ == "__main__":
    main()
