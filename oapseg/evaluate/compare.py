"""Generators side by side: masks of the same photos from the same features, what they took, what they score."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import yaml

from oapseg import storage
from oapseg.encode.encoder import Encoder, encoder_hash
from oapseg.evaluate.cost import Cost, read_cost, read_memory, write_memory
from oapseg.evaluate.generators import check_name, make_generator, settings_of
from oapseg.evaluate.ground_truth import shard_labels
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import Photo, find_overlaps
from oapseg.evaluate.pooling import Job, choice_of, dense_crf, fingerprint, pool_set, probe_set
from oapseg.evaluate.predict import EQUAL_RULE, generator_views
from oapseg.evaluate.predictions import Parts, Predictions, is_whole
from oapseg.evaluate.probe import Probed
from oapseg.params import Params
from oapseg.shards.manifest import Manifest

OWN_RULE = "the generator's own score"
HASH_DIGITS = 12  # of an encoder's weights that tell one from another


@dataclass(frozen=True)
class Value:
    """In percent, with the ends of its 95 % interval by the bootstrap over photos."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """A generator in the leaderboard; `failure` says why it has no masks."""

    name: str
    failure: str | None = None
    folder: str = ""  # of its masks
    failed: dict[str, str] = field(default_factory=dict)  # photos without masks, and why
    cost: Cost = field(default_factory=Cost)
    peak_bytes: int | None = None  # for one photo
    no_peak: str = ""  # why that is not known
    score_rule: str = ""
    views: str = ""  # what was looked at by which encoder, and what was done with all masks
    settings: str = ""  # of its section of `pool`, as it works with the encoder, in one line of YAML
    scores: dict[str, Value] = field(default_factory=dict)  # none without labels


def check_names(names: Sequence[str]) -> None:
    """Errors: `ValueError` that names the first one that is no generator, or comes twice."""
    for place, name in enumerate(names):
        check_name(name)
        if name in names[:place]:
            raise ValueError(f"generator {name} is named twice")


def compare(
    manifest: Manifest, encoder: Encoder, names: Sequence[str], params: Params, out: str, pooled: str | None = None
) -> list[Row]:
    """A row a generator, the best first. Masks go below `out`, a folder a generator, and are kept for the next time.

    `pooled` is where the step pool may have made them already, from the same photos, encoder and settings.
    """
    jobs: dict[str, Job] = {}
    failures: dict[str, str] = {}
    probes: dict[str, Probed] = {}
    most = int(params.compare.max_failed * manifest.num_samples)
    for name in names:
        try:
            generator = make_generator(name, params, encoder)
            decided = fingerprint(name, params, encoder, manifest)
        except Exception as error:  # noqa: BLE001  # without weights, or a package that is not here: its row says so
            failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            continue
        folder = storage.join(out, name)
        if pooled is not None and is_whole(storage.join(pooled, name), manifest, decided):
            folder = storage.join(pooled, name)
        probed = read_memory(folder, decided)
        if probed is None:
            probed = probe_set(name, params, encoder, manifest)
            write_memory(folder, decided, probed)
        if probed.killed:
            failures[name] = str(probed.failure)
            continue
        probes[name] = probed
        jobs[name] = Job(name, generator, Parts(folder, manifest, decided), most)
    pool_set(manifest, encoder, list(jobs.values()), params, what=f"masks by {len(jobs)} generators")
    failures |= {name: job.given_up for name, job in jobs.items() if job.given_up is not None}
    rows = [
        Row(name, failures[name]) if name in failures else _row(jobs[name], probes[name], manifest, encoder, params)
        for name in names
    ]
    return sorted(rows, key=rank, reverse=True)


def views_of(params: Params, encoder: Encoder) -> str:
    """What is the same for all generators, in words: the encoder, what it looked at, what was done with their masks."""
    said = generator_views(params.predict, dense_crf(params), choice_of(params))
    weights = encoder_hash(encoder)[:HASH_DIGITS]
    return (
        f"encoder {params.encode.name} (weights {weights}); {said}; at most {params.predict.max_masks} masks of a kind"
    )


def rank(row: Row) -> tuple[float, ...]:
    """Rows with masks first, by AP50 of masks, or else by how well they follow the photo's edges."""
    score = row.scores.get("mask_AP50", row.scores.get("box_AP50"))
    edges = row.cost.measures.get("edges", 0.0)
    return (float(row.failure is None), -1.0 if score is None else score.value, edges)


def _row(job: Job, probed: Probed, manifest: Manifest, encoder: Encoder, params: Params) -> Row:
    folder = job.parts.folder
    scores, equal = _score(folder, manifest, params)
    settings = params.pool[job.name].model_dump(mode="json")
    settings |= {key: value for key, value in settings_of(job.name, params, encoder).items() if key == "crop_px"}
    return Row(
        name=job.name,
        folder=folder,
        failed=job.failed,
        cost=read_cost(folder, range(len(manifest.shards))),
        peak_bytes=probed.peak_bytes,
        no_peak=probed.failure or "",
        score_rule=EQUAL_RULE if equal else OWN_RULE,
        views=views_of(params, encoder),
        settings=yaml.safe_dump(settings, default_flow_style=True, sort_keys=False, width=math.inf).strip("{}\n"),
        scores=scores,
    )


def _score(folder: str, manifest: Manifest, params: Params) -> tuple[dict[str, Value], bool]:
    """Class-agnostic scores where there are labels, and whether all masks have one score."""
    made = Predictions(folder)
    rules: set[float] = set()

    def photos() -> Iterator[Photo]:
        for number in range(len(manifest.shards)):
            found = made.part(number)
            rules.update(each["score"] for results in found.values() for each in results)
            for labels in shard_labels(manifest, number):
                if "instances" in labels:
                    results = found.get(labels["image_id"], [])
                    yield Photo(labels | {"id": labels["image_id"]}, labels["instances"], results)

    overlaps = find_overlaps(photos())
    if not len(overlaps.image_ids):
        return {}, len(rules) <= 1
    draws = resample_photos(len(overlaps.image_ids), params.evaluate.bootstrap, params.evaluate.bootstrap_seed)
    measured = score_class_agnostic(overlaps, draws, params.evaluate.max_dets)
    scores = {}
    for name, each in measured.items():
        if not np.isnan(each.value):
            low, high = (None, None) if (ends := each.interval()) is None else (100 * end for end in ends)
            scores[name] = Value(100 * each.value, low, high)
    return scores, len(rules) <= 1
