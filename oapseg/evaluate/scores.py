"""All scores of one benchmark, each with what makes it comparable: protocol, split, interval, rules, versions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from oapseg.evaluate import class_aware, instances, panoptic, saliency, semantic
from oapseg.evaluate.benchmark import Benchmark
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.evaluate.look import Seen
from oapseg.evaluate.predictions import Maker
from oapseg.params import EvaluateParams

GENERATOR, MODEL, GAIN = "generator", "model", "gain"  # groups of scores; a group is a maker of masks, or their gain
CLASS = "class_"  # before the name of an instance score by class
SIZES = ("_small", "_medium", "_large")  # endings of scores of one size
HEADLINES = (
    *("mask_AP", "mask_AP50", "box_AP", "box_AP50"),
    *("class_mask_AP", "class_mask_AP50", "class_box_AP", "class_box_AP50"),
    *("semantic_mIoU", "panoptic_PQ", "saliency_max_F_beta", "saliency_instance_mIoU"),
)


@dataclass(frozen=True)
class Score:
    """One number, in percent, with the ends of its 95 % interval by the bootstrap over photos."""

    value: float
    low: float | None
    high: float | None
    benchmark: str
    protocol: str
    split: str
    images: int
    score_rule: str
    data: str  # hash of the photos and labels
    checkpoint: str | None = None  # hash of the model, or of the encoder that was pooled
    generator: str | None = None  # what pooled the masks, where the number is of them
    mapping: str | None = None
    fit_on: str | None = None
    mapped_clusters: int | None = None
    runs: int | None = None  # whose mean the value is, where what is scored rolls dice
    deviation: float | None = None  # of them, points of percent


class Group(NamedTuple):
    """Scores of one maker: each with its resamples, and what is said of it."""

    measured: dict[str, Measured]
    said: dict[str, dict[str, Any]]

    def add(self, prefix: str, measured: Mapping[str, Measured], said: dict[str, Any]) -> None:
        for name, each in measured.items():
            self.measured[prefix + name] = each
            self.said[prefix + name] = said


def score_maker(
    maker: Maker, seen: Seen, fit: Seen, fit_split: str, benchmark: Benchmark, params: EvaluateParams, seed: int
) -> Group:
    """Every score of the benchmark's tasks, for one maker of masks. `fit` is where clusters are given their classes.

    Percent come later; what cannot be measured (AP of small things without one) is absent.
    """
    group, common = Group({}, {}), said_of(maker, benchmark)

    def draws(count: int) -> Int[np.ndarray, "R B"]:
        return resample_photos(count, params.bootstrap, seed)

    def mapped(rule: str, clusters: int) -> dict[str, Any]:
        if maker.generator is not None:
            rule += f"; clusters by k-means of the masks' features into {params.feature_clusters}"
        fitted = {"mapping": params.mapping, "fit_on": fit_split, "mapped_clusters": clusters}
        return {"score_rule": maker.said(rule)} | fitted

    def of_measures(measured: dict[str, Measured]) -> dict[str, Measured]:
        return {name: each for name, each in measured.items() if name.startswith(benchmark.measures)}

    if photos := len(seen.overlaps.image_ids):
        said = common | {"images": photos, "score_rule": maker.said(maker.score_rule)}
        rule = {"protocol": instances.protocol(benchmark.max_dets)}
        measured = instances.score_class_agnostic(seen.overlaps, draws(photos), benchmark.max_dets)
        group.add("", of_measures(measured), said | rule)
        if benchmark.things:
            to_class = class_aware.fit_mapping(
                fit.overlaps,
                benchmark.things,
                rule=params.mapping,
                min_score=params.vote_score,
                min_iou=params.vote_iou,
            )
            measured = class_aware.score_class_aware(
                seen.overlaps,
                benchmark.things,
                to_class,
                draws(photos),
                benchmark.max_dets,
                frequencies=dict(zip(benchmark.things, benchmark.frequencies, strict=False)),
            )
            federated = class_aware.is_federated(seen.overlaps)
            votes = params.vote_score, params.vote_iou
            rule = {"protocol": class_aware.protocol(benchmark.max_dets, *votes, federated=federated)}
            group.add(CLASS, of_measures(measured), said | rule | mapped(maker.score_rule, len(to_class)))
    if photos := len(seen.confusions):
        classes = benchmark.classes.order()
        to_class = semantic.fit_mapping(fit.confusions, classes, params.mapping)
        counts = semantic.class_pixels(seen.confusions, to_class, classes)
        rule = {"protocol": semantic.protocol(benchmark.short_side_px, benchmark.crop_px)}
        said = common | {"images": photos} | rule | mapped(maker.region_rule, len(to_class))
        group.add("semantic_", semantic.score_semantic(counts, draws(photos)), said)
    if photos := len(seen.shared):
        named = panoptic.fit_mapping(fit.shared, benchmark.classes, params.mapping)
        quality = panoptic.quality_counts(seen.shared, named, benchmark.classes, min_stuff_px=params.stuff_px)
        rule = {"protocol": panoptic.protocol(params.panoptic_score, params.panoptic_overlap, params.stuff_px)}
        both, total = f"{maker.score_rule}; regions: {maker.region_rule}", len(named.instances) + len(named.regions)
        measured = panoptic.score_panoptic(quality, benchmark.classes, draws(photos))
        group.add("panoptic_", measured, common | {"images": photos} | rule | mapped(both, total))
    if photos := len(seen.saliency):
        rule = {"protocol": saliency.protocol(params.saliency_score, params.saliency_area, params.saliency_ratio)}
        said = common | {"images": photos, "score_rule": maker.said(maker.score_rule)} | rule
        group.add("saliency_", saliency.score_saliency(seen.saliency, draws(photos)), said)
    return group


def said_of(maker: Maker, benchmark: Benchmark) -> dict[str, Any]:
    """What all scores of one maker on a benchmark say alike."""
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "data": benchmark.data,
        "checkpoint": maker.checkpoint,
        "generator": maker.generator,
    }


def as_scores(groups: Mapping[str, Group]) -> dict[str, Score]:
    """Scores by flat name, `generator.mask_AP50`, `model.panoptic_PQ` and so on, and `gain.*`: model less generator.

    A gain is paired: both are scored on the same resamples of the photos.
    """
    scores: dict[str, Score] = {}
    for maker, group in groups.items():
        scores |= _records(maker, group.measured, group.said)
    before, after = groups[GENERATOR], groups[MODEL]
    paired = {name: gain(after.measured[name], before.measured[name]) for name in after.measured}
    said = {
        name: after.said[name]
        | {
            "generator": before.said[name]["generator"],
            "score_rule": f"model: {after.said[name]['score_rule']}; generator: {before.said[name]['score_rule']}",
        }
        for name in after.measured
    }
    return scores | _records(GAIN, paired, said)


def headlines(scores: dict[str, Score], max_dets: int) -> dict[str, float]:
    """The few numbers by which two runs are compared, as `dvc metrics show` and Kubeflow's pages list them."""
    names = {*HEADLINES, f"mask_AR{max_dets}", f"box_AR{max_dets}"}
    return {flat: score.value for flat, score in scores.items() if flat.split(".")[1] in names}


def as_json(scores: dict[str, Score]) -> dict[str, dict[str, Any]]:
    """Scores as plain values, without what does not apply to them."""
    return {
        name: {key: value for key, value in asdict(score).items() if value is not None}
        for name, score in scores.items()
    }


def read_scores(values: dict[str, Any]) -> dict[str, Score]:
    """What `as_json` made, as scores again. Errors: `ValueError` where they are of another make."""
    try:
        return {name: Score(**{"low": None, "high": None, **value}) for name, value in values.items()}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"metrics.json: not as the step evaluate writes it ({error})") from None


def _records(group: str, measured: Mapping[str, Measured], said: Mapping[str, dict[str, Any]]) -> dict[str, Score]:
    scores = {}
    for name, each in measured.items():
        if np.isnan(each.value):
            continue
        score = Score(_percent(each.value), None, None, **said[name])
        if (ends := each.interval()) is not None:
            score = replace(score, low=_percent(ends[0]), high=_percent(ends[1]))
        scores[f"{group}.{name}"] = score
    return scores


def _percent(share: float) -> float:
    return round(100 * share, 3)
