"""Sizes and CPU speed of exported graphs against PyTorch, in one run: the network alone on views of one side.

    oapseg export --model MODEL --out model.onnx           the graphs; precisions by `export.precisions`
    python benchmarks/export.py MODEL model.onnx [--batch B] [--passes P] [--threads T]

Each pass runs PyTorch and every graph beside it in turn on the same random views of the whole photo's side; the best of
the passes counts, by the wall clock and by CPU time, which other work on the machine disturbs less.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from oapseg.params import default_params_path, load_params
from oapseg.use.export_graph import Queries
from oapseg.use.onnx_model import OnnxModel
from oapseg.use.resolved import load, resolve


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    params = load_params(default_params_path())
    resolved = resolve(args.model, params)
    model = load(resolved, params, "cpu")
    queries = Queries(model.segmenter, model.look.mask_threshold).eval()
    views = torch.rand(args.batch, 3, model.look.image_px, model.look.image_px)

    def pytorch(precision: str) -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            queries(views)

    runs: dict[str, Callable[[], Any]] = {f"PyTorch {each}": partial(pytorch, each) for each in ("fp32", "bf16")}
    weights = sum(each.numel() * each.element_size() for each in model.segmenter.parameters())
    sizes = dict.fromkeys(runs, weights)
    for name in ("", ".fp16", ".int8"):
        path = args.graph.with_name(f"{args.graph.stem}{name}.onnx")
        if path.exists():
            exported = OnnxModel(path, threads=args.threads)
            runs[path.name] = partial(exported.see, views)
            sizes[path.name] = path.stat().st_size
    best = {name: (float("inf"), float("inf")) for name in runs}
    for turn in range(1 + args.passes):
        for name, run in runs.items():
            took = timed(run)
            if turn:
                best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    table = Table(title=f"{args.batch} views of {model.look.image_px} px, {args.threads} threads")
    for heading in ("", "MB", "wall, ms a view", "CPU, ms a view", "CPU by PyTorch fp32"):
        table.add_column(heading, justify="right")
    for name, (wall_s, cpu_s) in best.items():
        cells = [f"{1000 * each / args.batch:.0f}" for each in (wall_s, cpu_s)]
        table.add_row(name, f"{sizes[name] / 1e6:.1f}", *cells, f"{cpu_s / best['PyTorch fp32'][1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
