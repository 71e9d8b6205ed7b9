"""Settings of a generator, searched for on photos without labels, by what masks are worth without them.

A random search with a seed over ranges of section `tune`: plain, the same for every generator, and as good as any for
the few dozens of trials that one wants to wait for. Where photos have labels, what each setting would have scored is
told beside, never used.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from scipy.stats import spearmanr

from oapseg.encode.encoder import Encoder
from oapseg.encode.patches import Patches
from oapseg.evaluate.generators import make_generator
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import Photo, find_overlaps
from oapseg.evaluate.pooling import choice_of, dense_crf, encode
from oapseg.evaluate.predict import generator_results, kept_masks
from oapseg.masks import INSTANCE, Masks
from oapseg.monitor.label_free import (
    Edges,
    coverage,
    crop_stability,
    edge_alignment,
    flip_stability,
    level_agreement,
    on_grid,
    outline,
    photo_edges,
)
from oapseg.params import Params, RangeParams, Section
from oapseg.pool.generator import Generator
from oapseg.shards.read import Sample

LEAST_CELLS = 4  # of a mask that a crop has cut; smaller ones are slivers
DRAWS_A_TRIAL = 100  # before the ranges are given up as too narrow
Box = tuple[float, float, float, float]


class Views(NamedTuple):
    """A photo, its mirror image and a crop of it, encoded once for all settings."""

    sample: Sample
    whole: Patches
    flipped: Patches
    cropped: Patches
    box: Box  # of the crop: top, left, bottom, right, as shares
    edges: Edges


@dataclass(frozen=True)
class Trial:
    """A setting tried; `failure` says why it has no masks."""

    settings: dict[str, Any]
    measures: dict[str, float] = field(default_factory=dict)
    masks: float = 0.0  # instance masks a photo
    truth: dict[str, float] = field(default_factory=dict)  # in percent; none without labels
    failure: str | None = None
    score: float = 0.0


def see(samples: Sequence[Sample], encoder: Encoder, params: Params) -> list[Views]:
    """The views of photos; crops lie where the seed says."""
    rng = np.random.default_rng(params.seed)
    side, seen = params.tune.crop, []
    for start in range(0, len(samples), params.predict.batch):
        some = samples[start : start + params.predict.batch]
        corners = [rng.uniform(0, 1 - side, 2) for _ in some]
        boxes = [(float(top), float(left), float(top + side), float(left + side)) for top, left in corners]
        images = [sample.image for sample in some]
        wholes, flips, crops = (
            encode(encoder, each, params.predict)
            for each in (
                images,
                [image.flip(1) for image in images],
                [_crop(image, box) for image, box in zip(images, boxes, strict=True)],
            )
        )
        for sample, whole, flipped, cropped, box in zip(some, wholes, flips, crops, boxes, strict=True):
            edges = photo_edges(sample.image, whole.grid)
            edges = Edges(*(each.to(whole.features.device) for each in edges))
            seen.append(Views(sample, whole, flipped, cropped, box, edges))
    return seen


def settings_to_try(section: Section, ranges: Mapping[str, RangeParams], trials: int, seed: int) -> list[Section]:
    """The present settings, then as many others, no two alike; fewer where the ranges hold no more.

    Errors: `ValueError` where a range is of a setting that the generator has not.
    """
    if unknown := sorted(set(ranges) - set(section.keys())):
        raise ValueError(f"{unknown[0]} is no setting; there are {', '.join(section.keys())}")
    rng = np.random.default_rng(seed)
    tried = [section]
    for _ in range(trials * DRAWS_A_TRIAL):
        if len(tried) > trials:
            break
        drawn = section.model_dump() | {name: draw(ranges[name], rng) for name in sorted(ranges)}
        try:
            candidate = type(section).model_validate(drawn)
        except ValidationError:  # two settings that do not go together
            continue
        if candidate not in tried:
            tried.append(candidate)
    return tried


def draw(within: RangeParams, rng: np.random.Generator) -> Any:
    """A value of a range, to three digits."""
    if within.choices is not None:
        return within.choices[int(rng.integers(len(within.choices)))]
    low, high = float(within.low or 0.0), float(within.high or 0.0)
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if within.log else rng.uniform(low, high)
    return round(value) if within.whole else float(f"{value:.3g}")


def try_settings(
    name: str, tried: Sequence[Section], seen: Sequence[Views], params: Params, encoder: Encoder
) -> Iterator[Trial]:
    """Each setting's masks and what they are worth, one setting in memory at a time; `encoder` is that of the views."""
    for settings in tried:
        said = settings.model_dump(mode="json")
        try:
            pool = params.pool.model_copy(update={name: settings})
            generator = make_generator(name, params.model_copy(update={"pool": pool}), encoder)
            yield _try(generator, said, seen, params)
        except Exception as error:  # noqa: BLE001  # a setting that a generator cannot work with is no choice
            yield Trial(said, failure=f"{type(error).__name__}: {' '.join(str(error).split())}")


def scored(trials: Sequence[Trial], weights: Mapping[str, float]) -> list[Trial]:
    """Trials with their scores: the weighted geometric mean of the measures.

    A product, since they pull apart: stable masks are large and few, masks that follow every edge are neither, and a
    setting that is bad at one of them is bad. A measure that no trial has is left out; one that a trial alone has not
    is 0 for it.

    Errors: `ValueError` where no measure is left.
    """
    known = {name for trial in trials for name, value in trial.measures.items() if math.isfinite(value)}
    used = sorted(name for name in known if weights[name] > 0)
    total = sum(weights[name] for name in used)
    if not total:
        raise ValueError("tune.weights: every measure that could be taken has a weight of 0; give one more")

    def score(trial: Trial) -> float:
        values = {name: trial.measures.get(name, math.nan) for name in used}
        if any(not value > 0 for value in values.values()):
            return 0.0
        return math.exp(sum(weights[name] * math.log(value) for name, value in values.items()) / total)

    return [replace(trial, score=score(trial)) for trial in trials]


def correlations(trials: Sequence[Trial], truth: str) -> dict[str, float]:
    """Spearman's rank correlation of the score, and of each measure, with what settings truly scored; 0 without one."""
    told = [trial for trial in trials if truth in trial.truth]
    if len(told) < 3:
        return {}
    true = [trial.truth[truth] for trial in told]
    columns = {"score": [trial.score for trial in told]}
    for name in told[0].measures:
        columns[name] = [trial.measures.get(name, math.nan) for trial in told]
    return {name: _spearman(values, true) for name, values in columns.items() if np.isfinite(values).all()}


def _try(generator: Generator, said: dict[str, Any], seen: Sequence[Views], params: Params) -> Trial:
    """What the masks that are kept are worth; a CRF, which takes longer than all else, only before the labels look."""
    values: dict[str, list[float]] = {}
    photos, count, choice = [], 0, choice_of(params)
    for start in range(0, len(seen), params.predict.batch):
        some = seen[start : start + params.predict.batch]
        wholes, flips, crops = (
            generator.batch(list(each)) for each in zip(*((v.whole, v.flipped, v.cropped) for v in some), strict=True)
        )
        for views, whole, flipped, cropped in zip(some, wholes, flips, crops, strict=True):
            kept = [kept_masks(masks, params.predict, choice) for masks in (whole, flipped, cropped)]
            for name, value in _measures(views, *kept).items():
                values.setdefault(name, []).append(value)
            count += int((kept[0].kind == INSTANCE).sum())
            if "instances" in views.sample.labels:
                photos.append(_photo(views.sample, whole, params))
    means = {name: _mean(each) for name, each in values.items()}
    return Trial(said, means, count / len(seen), _truth(photos, params.evaluate.max_dets))


def _measures(views: Views, *found: Masks) -> dict[str, float]:
    whole, flipped, cropped = (on_grid(masks, views.whole.grid) for masks in found)
    return {
        "coverage": coverage(whole.masks),
        "edges": edge_alignment(whole.masks, views.edges),
        "outline": outline(whole.masks, views.edges),
        "flips": flip_stability(whole.masks, flipped.masks),
        "crops": crop_stability(whole.masks, cropped.masks, views.box, LEAST_CELLS),
        "levels": level_agreement(whole),
    }


def _photo(sample: Sample, masks: Masks, params: Params) -> Photo:
    results = generator_results(sample, masks, params.predict, dense_crf(params), choice_of(params)).results
    return Photo(sample.labels | {"id": sample.labels["image_id"]}, sample.labels["instances"], results)


def _truth(photos: list[Photo], max_dets: int) -> dict[str, float]:
    if not photos:
        return {}
    measured = score_class_agnostic(find_overlaps(photos), resample_photos(len(photos), 0, 0), max_dets)
    of = "mask" if "mask_AP" in measured else "box"
    wanted = {"AP": f"{of}_AP", "AP50": f"{of}_AP50", "AR": f"{of}_AR{max_dets}"}
    return {name: 100 * measured[key].value for name, key in wanted.items() if not math.isnan(measured[key].value)}


def _crop(image: torch.Tensor, box: Box) -> torch.Tensor:
    """The pixels of a box, one at least."""
    height, width = image.shape[:2]
    top, left = int(box[0] * height), int(box[1] * width)
    return image[top : max(top + 1, round(box[2] * height)), left : max(left + 1, round(box[3] * width))]


def _mean(values: Sequence[float]) -> float:
    """Over the photos that have the measure."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    if len(set(a)) == 1 or len(set(b)) == 1:
        return 0.0
    return float(spearmanr(a, b).statistic)
