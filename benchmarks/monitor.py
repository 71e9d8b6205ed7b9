"""What watching a training costs: CPU time of the measures as a share of the step's, at the sizes of params.yaml.

    python benchmarks/monitor.py --shards work/shards/pretrain --encoder work/encoder

CPU time of this process, so that others on the machine do not count; on a GPU the wall clock, between synchronisations.
Every step pays for `remember` and the laps, every `monitor.every`-th for the measures; the exporter where one listens.
"""

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from oapseg.encode.load import load_folder
from oapseg.model.segmenter import Segmenter
from oapseg.monitor.exporter import Exporter
from oapseg.monitor.quality import Observer
from oapseg.params import default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import load_manifest
from oapseg.train import segmenter
from oapseg.train.data import ToViews, batches
from oapseg.train.distributed import place

WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--encoder", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=6, help="steps that are measured")
    parser.add_argument("--params", default=str(default_params_path()))
    args = parser.parse_args()
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
    on_gpu = placement.device.type == "cuda"

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize(placement.device)
        return time.perf_counter() if on_gpu else time.process_time()

    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = now()
            result = function(*arguments, **named)
            seconds[part] += now() - begun
            return result

        return call

    every, measured = "of every step", "of a measured step"
    parts: list[tuple[str, Any, str]] = [
        (every, observer, "remember"),
        (measured, observer, "measure"),
        (measured, segmenter, "_pairs"),
    ]
    for part, owner, name in parts:
        setattr(owner, name, timed(part, getattr(owner, name)))
    with Exporter("benchmark", "pretrain", 0, port=19200) as exporter:
        for step in range(WARM_UP + args.steps):
            if step == WARM_UP:
                seconds.clear()
            row = timed("step", task.step)(step)
            timed("exporter", exporter.show)(row)
    watching = seconds[every] + seconds[measured]
    alone = seconds["step"] - watching
    for part in (every, measured, "exporter"):
        print(f"{part:20s} {1000 * seconds[part] / args.steps:8.2f} ms")
    print(f"{'step without':20s} {1000 * alone / args.steps:8.2f} ms")
    share = (seconds[every] + seconds[measured] / max(params.monitor.every, 1) + seconds["exporter"]) / alone
    print(f"share of the step, measured every {params.monitor.every}: {100 * share:.2f} %")
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; batch {settings.batch}, {settings.image_px} px"
    )


if __name__ == "__main__":
    main()
