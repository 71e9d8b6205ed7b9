"""What watching a training costs: whole steps with and without it, and the parts of it, at the sizes of params.yaml.

    python benchmarks/monitor.py --shards work/shards/pretrain --encoder work/encoder

CPU time of this process, so that others on the machine do not count; on a GPU the wall clock, between synchronisations.
Steps go in threes on the same photos: one without laps, observer, exporter and history, one with them that is not
measured, and one that is, in an order that changes. What is printed is the median of the differences within the threes,
its 95 % interval by resampling them, and beside it the sum of the parts: every step pays for `remember`, the line of
the history and the exporter, every `monitor.every`-th for the measures, and each checkpoint for the observer's memory,
its picture and the table of the history, as long as that is at each of three lengths.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oapseg import storage
from oapseg.encode.load import load_folder
from oapseg.model.segmenter import Segmenter
from oapseg.monitor.exporter import PORT
from oapseg.monitor.history import HISTORY, TABLE
from oapseg.monitor.memory import save_memory
from oapseg.monitor.pictures import FILE as PICTURE
from oapseg.monitor.quality import Observer
from oapseg.monitor.recorder import Recorder, Told
from oapseg.monitor.table import PAUSE, Table
from oapseg.params import default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import load_manifest
from oapseg.train import segmenter
from oapseg.train.data import ToViews, batches
from oapseg.train.distributed import place

WARM_UP = 1
LINES = (1_600, 8_000, 16_000)  # of a history
KINDS = ("without", "watched", "measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--encoder", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=6, help="threes of steps that are measured")
    parser.add_argument("--params", default=str(default_params_path()))
    args = parser.parse_args()
    os.environ.setdefault(PORT, "19200")
    params = load_params(args.params)
    settings = params.pretrain.model_copy(update={"workers": 0})
    placement = place(settings.device, settings.precision, "pretrain")
    torch.manual_seed(params.seed)
    draw = batches(
        [(load_manifest(args.shards), 1.0)],
        ToViews(settings, params.seed),
        settings,
        placement,
        seed=params.seed,
        section="pretrain",
    )
    observer = Observer(every=1, photos=params.monitor.photos, levels=len(params.pool.oap.tau))
    task = segmenter.SegmenterTraining(
        "pretrain",
        settings,
        Segmenter(load_folder(args.encoder), params.model),
        OAP(**params.pool.oap),
        draw,
        50,
        placement,
        seed=params.seed,
        observer=observer,
    )
    with tempfile.TemporaryDirectory() as folder:
        took, parts = measure(task, observer, draw, Path(folder), args.steps)
        saved = at_checkpoint(observer, Path(folder), clock(placement.device))
    every = max(params.monitor.every, 1)
    without = statistics.median(took["without"])
    rows = [("watched", "watched", 1 - 1 / every), ("measured", "measured", 1 / every)]
    shares = np.zeros(args.steps)
    print(f"{'step without':20s} {1000 * without:8.2f} ms")
    for name, kind, weight in rows:
        more = np.array(took[kind]) - np.array(took["without"])
        shares += weight * more / without
        print(f"{f'{name}, more':20s} {1000 * np.median(more):8.2f} ms {interval(1000 * more)}")
    print(f"whole steps, measured every {every}: {100 * np.median(shares):+.2f} % {interval(100 * shares)} of the step")
    for part, seconds in parts.items():
        print(f"{part:20s} {1000 * seconds:8.2f} ms")
    total = sum(seconds / (every if part == "measures" else 1) for part, seconds in parts.items())
    print(f"sum of the parts, measured every {every}: {100 * total / without:.2f} % of the step")
    print(f"\nat a checkpoint, every {settings.checkpoint_every_s:.0f} s")
    for part, seconds in saved.items():
        share = seconds / settings.checkpoint_every_s
        share = min(share, 1 / PAUSE) if part.startswith(TABLE) else share
        print(f"{part:28s} {1000 * seconds:8.2f} ms, {100 * share:.2f} % of the time")
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; batch {settings.batch}, {settings.image_px} px"
    )


def measure(
    task: segmenter.SegmenterTraining,
    observer: Observer,
    draw: Callable[[int], Iterator[Any]],
    folder: Path,
    count: int,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of whole steps by kind, one of each a three; and mean seconds of the parts, of a step that has them."""
    now = clock(task.placement.device)
    parts: dict[str, list[float]] = defaultdict(list)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = now()
            result = function(*arguments, **named)
            parts[part].append(now() - begun)
            return result

        return call

    observer.remember = timed("remember", observer.remember)  # type: ignore[method-assign]
    observer.measure = timed("measures", observer.measure)  # type: ignore[method-assign]
    laps, told = vars(segmenter)["Laps"], Told(folder, "pretrain", 0, 10**6, task.images, 10, 120.0, judge=True)
    photos = draw(0)
    took: dict[str, list[float]] = defaultdict(list)
    with Recorder(told, resumed=False) as recorder:
        recorder.did = timed("history, exporter", recorder.did)  # type: ignore[method-assign]
        for three in range(-WARM_UP, count):
            batch = next(photos)
            order = random.Random(three).sample(KINDS, len(KINDS))
            for kind in order:
                task._batches = iter([batch])
                task.observer = None if kind == "without" else observer
                observer.due = lambda _step, kind=kind: kind == "measured"  # type: ignore[method-assign,misc]
                setattr(segmenter, "Laps", _NoLaps if kind == "without" else laps)  # noqa: B010  # no name of its own
                begun = now()
                recorder.begin()
                values = task.step(max(three, 0))
                if kind != "without":
                    recorder.did(max(three, 0), values, measured=kind == "measured")
                if three >= 0:
                    took[kind].append(now() - begun)
            if three < 0:
                parts.clear()
    setattr(segmenter, "Laps", laps)  # noqa: B010
    return took, {part: sum(seconds) / len(seconds) for part, seconds in parts.items()}


def at_checkpoint(observer: Observer, folder: Path, now: Callable[[], float]) -> dict[str, float]:
    """Seconds of what a checkpoint brings up to date, the least of three; the table by the length of its history."""
    lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]

    def least(function: Callable[[], None]) -> float:
        took = []
        for _ in range(3):
            begun = now()
            function()
            took.append(now() - begun)
        return min(took)

    def picture() -> None:
        storage.write_bytes(folder / PICTURE, observer.picture() or b"")

    found = {"memory": least(lambda: save_memory(folder, 0, observer.state())), PICTURE: least(picture)}
    for count in LINES:
        told = (json.dumps(lines[step % len(lines)] | {"step": step}) + "\n" for step in range(count))
        (folder / HISTORY).write_text("".join(told))
        found[f"{TABLE}, {count:,} lines"] = least(Table(folder).write)
    return found


class _NoLaps:
    """Takes no time of anything."""

    def __init__(self, _device: torch.device, **_options: bool) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, part: str) -> None:
        pass


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds, to be subtracted from each other."""

    def on_gpu() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return on_gpu if device.type == "cuda" else time.process_time


def interval(values: np.ndarray) -> str:
    """Of the median, by resampling."""
    draw = np.random.default_rng(0)
    medians = np.median(draw.choice(values, (2000, len(values))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return f"({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
