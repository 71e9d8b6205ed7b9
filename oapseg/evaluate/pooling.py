"""Pseudo-masks of a set of photos by any number of generators: each photo is encoded once, its features never leave
memory.

What a generator made lies in its folder as predictions do, what it took to make it beside (see `cost`): of the masks
that are kept, as they are kept, from the features to them.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate, islice
from typing import Any

import torch
from jaxtyping import UInt8
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from oapseg.encode.averaged import averaged_patches
from oapseg.encode.encoder import Encoder, encoder_hash
from oapseg.encode.patches import Patches
from oapseg.evaluate.cost import write_cost
from oapseg.evaluate.generators import decided_by, make_generator
from oapseg.evaluate.predict import kept_masks, kept_results, sample_patches
from oapseg.evaluate.predictions import Parts, PhotoResults
from oapseg.evaluate.probe import Probed, probe, warm_up
from oapseg.evaluate.refined import Placed
from oapseg.masks import INSTANCE, SEMANTIC, Masks, resize, rle_to_mask
from oapseg.monitor.label_free import Edges, coverage, edge_alignment, level_agreement, on_grid, photo_edges
from oapseg.params import Params, PredictParams
from oapseg.pool.generator import Generator
from oapseg.progress import Progress
from oapseg.refine.crf import DenseCRF
from oapseg.refine.regions import Choice
from oapseg.shards.manifest import Manifest
from oapseg.shards.parts import Part
from oapseg.shards.read import Photos, Sample

KEEP_EVERY_S = 20.0  # between copies of a part that is not whole; what a kill costs at most
NAMED_FAILED = 3
PROBED = 2  # photos that the memory is measured on, one at a time
NEEDED = {"image_px", "scales", "flip", "max_masks", "level", "crf"}  # of section predict, by a generator's masks


@dataclass
class Done:
    """What there is of one part: plain values, so that it outlives a kill."""

    photos: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all threads
    measures: dict[str, list[float]] = field(default_factory=dict)  # of each photo that has them


@dataclass
class Job:
    """A generator at work on a set."""

    name: str
    generator: Generator
    parts: Parts
    max_failed: int  # photos; one more, and it is given up
    failed: dict[str, str] = field(default_factory=dict)  # photos by name, and why
    given_up: str | None = None  # why
    warm: bool = False

    def fail(self, name: str, error: Exception) -> str:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.failed[name] = reason
        self.check()
        return reason

    def check(self) -> None:
        if len(self.failed) > self.max_failed:
            named = ", ".join(f"{name} ({reason})" for name, reason in list(self.failed.items())[:NAMED_FAILED])
            self.given_up = f"{self.name} failed on {len(self.failed)} photos, {self.max_failed} may fail: {named}"


def fingerprint(name: str, params: Params, encoder: Encoder, manifest: Manifest) -> str:
    """One hash of all that decides a generator's masks of a set: photos, encoder, settings, weights.

    Errors: `ValueError` where its weights are not there.
    """
    shards = [shard.sha256 for shard in manifest.shards]
    seen: list[Any] = [
        params.predict.model_dump(include=NEEDED),
        params.refine.crf.model_dump() if params.predict.crf else None,
    ]
    if (choice := choice_of(params)) is not None:
        seen.append(asdict(choice))
    content = [name, decided_by(name, params), seen, encoder_hash(encoder), shards]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def encode(encoder: Encoder, images: Sequence[UInt8[Tensor, "_H _W 3"]], params: PredictParams) -> list[Patches]:
    """Patches of photos, as section `predict` has them seen."""
    return averaged_patches(encoder, list(images), params.image_px, params.scales, params.flip)


def dense_crf(params: Params) -> DenseCRF | None:
    """The refinement of all masks, where `predict.crf` asks for it."""
    return DenseCRF(**params.refine.crf) if params.predict.crf else None


def choice_of(params: Params) -> Choice | None:
    """Which instance masks of a generator are kept, where section `refine` drops any, or fills their holes."""
    refine = params.refine
    on = refine.min_area > 0 or refine.max_iou < 1 or refine.fill_holes
    return Choice(refine.min_area, refine.max_iou, refine.fill_holes) if on else None


def probe_set(name: str, params: Params, encoder: Encoder, manifest: Manifest) -> Probed:
    """The memory that a generator takes for one of the first photos of a set."""
    samples = list(islice(Photos(manifest), PROBED))
    return probe(make_generator(name, params, encoder), sample_patches(encoder, samples, params.predict))


def pool_set(
    manifest: Manifest,
    encoder: Encoder,
    jobs: Sequence[Job],
    params: Params,
    *,
    part: Part | None = None,
    what: str = "photos",
) -> None:
    """Masks of every photo by every generator, shard by shard; parts that are whole already are kept.

    `part` are the shards of one worker of many. A photo that a generator fails on is noted and skipped; a generator
    that fails on too many is given up, and the others go on.
    """
    sizes = manifest.shard_sizes
    mine = range(len(sizes)) if part is None else part.shards(len(sizes))
    starts = [0, *accumulate(sizes)]
    photos = Photos(manifest)
    for job in jobs:
        for number in filter(job.parts.whole, mine):
            job.failed |= job.parts.failed(number)
            job.parts.tidy(number)
    there = {number: _there(jobs, number, sizes[number]) for number in mine}
    for job in jobs:
        job.check()
    with _progress() as progress:
        # What was there already is no speed of this run.
        bar = progress.add_task(what, total=sum(sizes[mine.start : mine.stop]), completed=sum(there.values()), rate="")
        for number in mine:
            start, size, first = starts[number], sizes[number], there[number]
            working = [(job, _begun(job, number)) for job in jobs if not job.parts.whole(number)]
            if not working:
                continue
            begun, kept = time.monotonic(), time.monotonic()
            samples, at = photos.each(range(start + first, start + size)), first
            while (some := list(islice(samples, params.predict.batch))) and any(job.given_up is None for job in jobs):
                _pool_batch(encoder, working, some, at, params)
                at += len(some)
                progress.update(
                    bar, advance=len(some), rate=f"{(at - first) / (time.monotonic() - begun):.2f} photos/s"
                )
                if time.monotonic() - kept > KEEP_EVERY_S:
                    _keep(working, number)
                    kept = time.monotonic()
            for job, done in working:
                if job.given_up is None:
                    write_cost(job.parts.folder, number, done.photos, (done.seconds, done.cpu_seconds), done.measures)
                    job.parts.write(number, [PhotoResults(done.results)], done.failed)
            if not progress.console.is_terminal:
                progress.console.print(f"{what}: shard {number + 1} of {len(sizes)} done, {_left(progress)}")


def _pool_batch(
    encoder: Encoder, working: list[tuple[Job, Done]], samples: list[Sample], at: int, params: Params
) -> None:
    """One batch by every generator that still has to see it; `at` is the place of its first photo in the shard."""
    todo = [(job, done) for job, done in working if job.given_up is None and done.photos < at + len(samples)]
    if not todo:
        return
    patches = sample_patches(encoder, samples, params.predict)
    edges = [photo_edges(sample.image, each.grid) for sample, each in zip(samples, patches, strict=True)]
    crf, choice = dense_crf(params), choice_of(params)
    device = patches[0].features.device
    for job, done in todo:
        skip = done.photos - at
        found = _made(job, done, samples[skip:], patches[skip:])
        for sample, masks, each, edge in zip(samples[skip:], found, patches[skip:], edges[skip:], strict=True):
            done.photos += 1
            if masks is not None:
                masks = masks if crf else masks.to("cpu")  # a CRF stays where the generator is
                with _clock(done, device):
                    kept = kept_masks(masks, params.predict, choice)
                watch = iter if crf is None else partial(_clocked, done, device)
                written, results = kept_results(sample, kept, crf, watch)
                done.results += results
                written = written.to("cpu")
                written = on_grid(written, each.grid) if crf is None else _refined(written, results, each.grid)
                _measure(done, written, edge)


def _made(job: Job, done: Done, samples: list[Sample], patches: list[Patches]) -> list[Masks | None]:
    """The masks of each photo; a batch that fails is done again one by one, to tell which photo it was."""
    device = patches[0].features.device
    if not job.warm:
        warm_up(job.generator, patches[0])
        job.warm = True
    with _clock(done, device):
        try:
            masks: list[Masks | None] = [*job.generator.batch(patches)]
        except Exception:  # noqa: BLE001  # whatever a generator raises is a photo's, to be named and counted
            masks = []
            for sample, each in zip(samples, patches, strict=True):
                try:
                    masks += job.generator.batch([each])
                except Exception as error:  # noqa: BLE001
                    masks.append(None)
                    done.failed[sample.labels["name"]] = job.fail(sample.labels["name"], error)
    return masks


@contextlib.contextmanager
def _clock(done: Done, device: torch.device) -> Iterator[None]:
    """What passes meanwhile is what the masks took."""
    begun, cpu_begun = _now(device), time.process_time()
    yield
    done.seconds += _now(device) - begun
    done.cpu_seconds += time.process_time() - cpu_begun


def _clocked(done: Done, device: torch.device, placed: Iterator[Placed]) -> Iterator[Placed]:
    """The masks, of which what it takes to come to each is counted, and not what is done with it."""
    while True:
        with _clock(done, device):
            each = next(placed, None)
        if each is None:
            return
        yield each


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _refined(kept: Masks, results: Sequence[dict[str, Any]], grid: tuple[int, int]) -> Masks:
    """Masks as their results have them, on a grid, one at a time: a photo's size is large."""
    small = (resize(rle_to_mask(each["segmentation"])[None], *grid) for each in results)
    masks = torch.cat([torch.zeros(0, *grid, dtype=torch.bool), *small])
    return Masks(masks, kept.level, kept.kind, kept.features, kept.scores)


def _measure(done: Done, masks: Masks, edges: Edges) -> None:
    values = {
        "instance": float((masks.kind == INSTANCE).sum()),
        "semantic": float((masks.kind == SEMANTIC).sum()),
        "coverage": coverage(masks.masks),
        "edges": edge_alignment(masks.masks, edges),
        "levels": level_agreement(masks),
    }
    for name, value in values.items():
        done.measures.setdefault(name, [])
        if math.isfinite(value):
            done.measures[name].append(value)


def _there(jobs: Sequence[Job], number: int, size: int) -> int:
    """How many photos of a part every job is done with."""
    return min((_begun(job, number).photos for job in jobs if not job.parts.whole(number)), default=size)


def _begun(job: Job, number: int) -> Done:
    kept = job.parts.begun(number)
    done = Done() if kept is None else Done(**kept)
    job.failed |= done.failed
    return done


def _keep(working: list[tuple[Job, Done]], number: int) -> None:
    for job, done in working:
        if job.given_up is None:
            job.parts.keep(number, asdict(done))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        speed_estimate_period=600,  # seconds: a batch of a slow generator takes minutes
    )


def _left(progress: Progress) -> str:
    """How far a run is, for a log."""
    task = progress.tasks[0]
    left = "?" if task.time_remaining is None else f"{task.time_remaining:.0f}"
    return f"{task.completed:.0f} of {task.total:.0f} photos, {task.fields['rate']}, {left} s left"
