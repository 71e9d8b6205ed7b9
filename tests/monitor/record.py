"""Short trainings on the embedded sample, whole or broken in one way, and their histories for `recorded/`.

    python tests/monitor/record.py SHARDS ENCODER OUT [NAME ...]

A minute each on a quiet machine. What is broken is broken as it would be: a wrong value in `params.yaml`, photos that
are black, masks of another photo, a loader that waits, a learning rate that leaps. All but the values begin at step 24.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.monitor.history import HISTORY
from oapseg.params import load_params, parse_params
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Sample
from oapseg.shards.stream import Ticket
from oapseg.train.data import ToViews
from oapseg.train.run import pretrain
from oapseg.train.segmenter import SegmenterTraining

FROM, BATCH, WAIT_S, LEAP = 24, 4, 1.5, 1000
SIZES: dict[str, dict[str, Any]] = {
    "pretrain": {
        "steps": 72,
        "log_every": 2,
        "device": "cpu",
        "workers": 0,
        "warmup_steps": 10,
        "batch": BATCH,
        "local_count": 2,
        "image_px": 128,
        "local_px": 48,
    },
    "model": {
        "width": 32,
        "ffn": 64,
        "decoder_layers": 1,
        "queries_instance": 40,
        "queries_semantic": 16,
        "interactions": 1,
        "pixel_layers": 1,
        "clusters": 64,
        "head_hidden": 128,
        "bottleneck": 64,
    },
    "monitor": {"every": 2, "action": "warn"},
}
CHANGED: dict[str, dict[str, Any]] = {  # keys of pretrain
    "healthy_small": {},
    "learning_rate": {"lr": 0.1},
    "centre": {"centre_momentum": 1.0},
    "hot_teacher": {"teacher_temperature": [0.4, 0.4]},
    "cold_teacher": {"teacher_temperature": [0.0004, 0.0004]},
    "black_photos": {},
    "shuffled_teacher": {},
    "throttled_loader": {},
    "leaping_rate": {},
}


def main() -> None:
    shards, encoder, out, *chosen = sys.argv[1:]
    torch.set_num_threads(1)
    for name in chosen or CHANGED:
        raw = load_params("params.yaml").model_dump(mode="json", by_alias=True)
        for section, values in SIZES.items():
            raw[section].update(values)
        raw["pool"]["oap"]["phi"] = 4
        raw["pretrain"].update(CHANGED[name])
        with _broken(name):
            pretrain(parse_params(raw), load_manifest(shards), Path(encoder), Path(out, name))
        rows = [json.loads(line) for line in Path(out, name, HISTORY).read_text().splitlines()]
        text = "".join(json.dumps({key: float(f"{value:.4g}") for key, value in row.items()}) + "\n" for row in rows)
        (Path(__file__).parent / "recorded" / f"{name}.jsonl").write_text(text)


@contextlib.contextmanager
def _broken(name: str) -> Iterator[None]:
    """The training as it would be if that happened."""
    views, init, schedule = ToViews.__call__, SegmenterTraining.__init__, SegmenterTraining._schedule

    def late(self: ToViews, sample: Sample, ticket: Ticket) -> Any:
        if ticket.draw >= FROM * BATCH and name == "black_photos":
            sample = sample._replace(image=torch.zeros_like(sample.image))
        elif ticket.draw >= FROM * BATCH:
            time.sleep(WAIT_S)
        return views(self, sample, ticket)

    def shuffled(self: SegmenterTraining, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.generator = _Rolled(self.generator.batch)  # type: ignore[assignment]

    def leaping(self: SegmenterTraining, step: int) -> dict[str, float]:
        rates, leap = schedule(self, step), LEAP if step >= FROM else 1
        for group in self.optimizer.param_groups:
            group["lr"] *= leap
        return rates | {"lr": rates["lr"] * leap}

    with contextlib.ExitStack() as stack:
        if name in ("black_photos", "throttled_loader"):
            stack.enter_context(patch.object(ToViews, "__call__", late))
        if name == "shuffled_teacher":
            stack.enter_context(patch.object(SegmenterTraining, "__init__", shuffled))
        if name == "leaping_rate":
            stack.enter_context(patch.object(SegmenterTraining, "_schedule", leaping))
        yield


class _Rolled:
    """A generator that gives each photo the masks of the next one."""

    def __init__(self, batch: Callable[[list[Patches]], list[Masks]]) -> None:
        self.inner, self.steps = batch, 0

    def batch(self, patches: list[Patches]) -> list[Masks]:
        self.steps += 1
        return self.inner(patches[1:] + patches[:1] if self.steps > FROM else patches)


if __name__ == "__main__":
    main()
