"""Checkpoints of trainings: the model's scores at each, beside what its history said without a label at that step."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from jaxtyping import Float
from rich.console import Console
from safetensors.torch import load_file
from scipy.stats import rankdata

from oapseg import storage
from oapseg.checkpoint.state import list_checkpoints, step_of
from oapseg.encode.load import load_folder
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.evaluate.predict import choose_device, model_predictor
from oapseg.model.segmenter import Segmenter
from oapseg.monitor.history import Column, read_history
from oapseg.params import ModelParams, Params
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos, Sample

TRUTH = ("mask_AP50", "mask_AR100")
STEP, WEIGHTS = "step", "model.safetensors"
OF_THE_MACHINE = ("seconds", "images_per_second", "loader_wait", "checkpoint_", "gpu_", "resumes", "rollbacks")
SHUFFLES = 2000  # of the scores within each run, for the p-value

Point = dict[str, float]  # measures and scores of a checkpoint
Runs = dict[str, dict[str, Point]]  # by run, and by checkpoint
Truth = dict[str, Any]  # a COCO data set


class Followed(NamedTuple):
    """How a measure follows a score: of ranks within each run, over the checkpoints of all runs."""

    rho: float
    p: float  # share of shuffles within the runs that follow at least as well, either way
    beyond_step: (
        float  # the same once what the number of the step tells is taken out of both; NaN where nothing is left
    )
    by_run: dict[str, float]
    points: int


def of_runs(folders: list[Path], shards: str, encoder_folder: Path, params: Params, num_photos: int) -> Runs:
    """Every checkpoint of every run, scored on the same photos. Errors: `ValueError` where a run is none."""
    photos, truth = _photos(shards, num_photos)
    runs: Runs = {}
    for folder in folders:
        history = read_history(folder)
        places = list_checkpoints(folder / "checkpoints")
        if not places:
            raise ValueError(f"{folder}/checkpoints: no checkpoint")
        points = runs.setdefault(_name(folder, folders), {})
        for place in places:
            scores = _scores(_teacher(place, encoder_folder), photos, truth, params)
            points[place.name] = measures_at(history, step_of(place) - 1) | scores
            said = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
            Console(stderr=True).print(f"{place}: {said}", highlight=False)
    return runs


def _name(folder: Path, folders: list[Path]) -> str:
    """The part of its path that tells a run from the others."""
    parts = [each.resolve().parts for each in folders]
    shared = next((place for place, each in enumerate(zip(*parts, strict=False)) if len(set(each)) > 1), -1)
    return "/".join(folder.resolve().parts[shared:])


def measures_at(history: dict[str, Column], step: int) -> Point:
    """Of each measure, the line nearest to a step; what depends on the machine is left out."""
    found = {STEP: float(step)}
    for name, column in history.items():
        if not name.startswith(OF_THE_MACHINE):
            found[name] = min(column, key=lambda line: (abs(line[0] - step), line[0]))[1]
    return found


def followed(runs: Runs, measure: str, score: str) -> Followed | None:
    """None where a run has no two values to put in order, or there are fewer than four points."""
    ours: list[Float[np.ndarray, " B"]] = []
    truth: list[Float[np.ndarray, " B"]] = []
    steps: list[Float[np.ndarray, " B"]] = []
    by_run = {}
    for name, points in runs.items():
        both = [each for each in points.values() if has(each, measure, score)]
        columns = [_ranks([each[key] for each in both]) for key in (measure, score, STEP)]
        if len(both) > 1 and columns[0].any() and columns[1].any():
            by_run[name] = _correlation(columns[0], columns[1])
            for column, into in zip(columns, (ours, truth, steps), strict=True):
                into.append(column)
    if sum(map(len, ours)) < 4:
        return None
    rho = _correlation(np.concatenate(ours), np.concatenate(truth))
    draw = np.random.default_rng(0)
    shuffled = (
        _correlation(np.concatenate(ours), np.concatenate([draw.permutation(each) for each in truth]))
        for _ in range(SHUFFLES)
    )
    p = (1 + sum(abs(each) >= abs(rho) - 1e-12 for each in shuffled)) / (1 + SHUFFLES)
    left = [np.concatenate([_without(a, b) for a, b in zip(some, steps, strict=True)]) for some in (ours, truth)]
    return Followed(rho, p, _correlation(*left), by_run, sum(map(len, ours)))


def has(point: Point, *names: str) -> bool:
    """Whether a point has all of these, as finite numbers."""
    return all(np.isfinite(point.get(name, np.nan)) for name in names)


def _ranks(values: list[float]) -> Float[np.ndarray, " B"]:
    """Ranks from -1 to 1 about their mean, equal values alike; zeros where all are."""
    ranks = rankdata(values) if values else np.zeros(0)
    return (ranks - ranks.mean()) / max(len(ranks) / 2, 1) if len(ranks) else ranks


def _correlation(a: Float[np.ndarray, " B"], b: Float[np.ndarray, " B"]) -> float:
    """Of values that are zero in the mean already; NaN where one of them does not vary."""
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 else float("nan")


def _without(values: Float[np.ndarray, " B"], steps: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    """What a line through the steps' ranks does not tell of these."""
    left: Float[np.ndarray, " B"] = values - steps * (values @ steps) / max(steps @ steps, 1e-12)
    return left


def _photos(shards: str, count: int) -> tuple[list[Sample], Truth]:
    """As many photos, spread evenly over the shards, and their labels; 0: all."""
    manifest = load_manifest(shards)
    truth = load_ground_truth(manifest)
    labelled = {image["id"] for image in truth["images"]}
    photos = [photo for photo in Photos(manifest) if photo.labels["image_id"] in labelled]
    if count and count < len(photos):
        photos = [photos[place * len(photos) // count] for place in range(count)]
    kept = {photo.labels["image_id"] for photo in photos}
    images = [image for image in truth["images"] if image["id"] in kept]
    return photos, truth | {"images": images}


def _teacher(checkpoint: Path, encoder_folder: Path) -> Segmenter:
    """What a checkpoint keeps for use; all else of it may have been thrown away."""
    known = json.loads((checkpoint / "sha256.json").read_text())[WEIGHTS]
    if storage.sha256(checkpoint / WEIGHTS) != known:
        raise ValueError(f"{checkpoint / WEIGHTS}: is not what was saved")
    model = yaml.safe_load((checkpoint / "params.yaml").read_text())["model"]
    segmenter = Segmenter(load_folder(encoder_folder), ModelParams(**model))
    segmenter.load_state_dict(load_file(checkpoint / WEIGHTS))
    return segmenter.eval()


def _scores(segmenter: Segmenter, photos: list[Sample], truth: Truth, params: Params) -> Point:
    """In percent, as the steps predict and evaluate make them."""
    predict = model_predictor(segmenter.to(choose_device(params.predict.device)), params.predict)
    batch = params.predict.batch
    with torch.no_grad():
        found = [each for start in range(0, len(photos), batch) for each in predict(photos[start : start + batch])]
    results = [result for each in found for result in each.results]
    resamples = resample_photos(len(truth["images"]), 0, params.seed)
    scores = score_class_agnostic(find_overlaps(by_photo(truth, results)), resamples, params.evaluate.max_dets)
    return {name: 100 * scores[name].value for name in TRUTH}
