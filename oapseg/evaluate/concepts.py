"""Concepts (ACSeg, sections 3.5 and 4.3): every region given a class by what it looks like.

In: for every region its feature, and how many pixels of each class it covers. Three ways from there: k-means into as
many clusters as there are classes, assigned one to one, and the mean of several runs, since k-means depends on its
start; the class that most of the nearest regions of other, labelled photos have, each of them of the class it covers
most; the class whose name is nearest (`text`). Scores are those of `semantic`, over all labelled pixels.

Departs from the paper: features are those that the generator gave its masks, where ACSeg embeds each region's crop anew
by its encoder; and background is a class as any other, where ACSeg names it beforehand by the encoder's attention.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from oapseg import storage
from oapseg.evaluate import semantic
from oapseg.evaluate.counts import VOID
from oapseg.evaluate.intervals import Measured, resample_photos
from oapseg.evaluate.look import Seen
from oapseg.evaluate.predictions import Maker, Predictions
from oapseg.evaluate.runs import Scored
from oapseg.evaluate.scores import Group, said_of
from oapseg.evaluate.semantic import Confusion, renamed
from oapseg.evaluate.text import name_by_text
from oapseg.match.features import Features
from oapseg.match.kmeans import fit_centres, nearest_centre
from oapseg.params import EvaluateParams

KMEANS, NEIGHBOURS, TEXT = "concepts_kmeans_", "concepts_knn{}_", "concepts_text_"  # before the names of the scores
AT_ONCE = 2**24  # similarities in memory


class Concepts(NamedTuple):
    """The S regions of a set of photos that can be seen in their maps."""

    photos: list[Confusion]  # its `clusters` are the regions' numbers
    place: Int[np.ndarray, " S"]  # among all masks of their maker
    features: Features | None  # unit length; none where their maker names clusters itself


def find_concepts(regions: list[Confusion], features: Features | None) -> Concepts:
    """The regions of one maker's maps, whose clusters are places among its masks, which have these features."""
    seen = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(photo.clusters for photo in regions)]))
    seen = seen[seen != VOID]
    numbers = {place: number for number, place in enumerate(seen.tolist())}
    return Concepts(
        [renamed(photo, numbers) for photo in regions],
        seen,
        None if features is None else features.only(seen).unit(),
    )


def add_concepts(
    group: Group,
    name: str,
    maker: Maker,
    val: Scored,
    fit: Scored,
    seen: tuple[Seen, Seen],
    params: EvaluateParams,
    seed: int,
) -> None:
    """Scores of a maker's regions to its others, where the photos have semantic labels; `seen` of `val` and `fit`."""
    made, fitted = (Predictions(storage.join(each.predictions, name)) for each in (val, fit))
    features = made.features()
    if "semantic" not in val.benchmark.tasks or (features is None and params.text.weights is None):
        return
    found = find_concepts(seen[0].regions, features)
    known = found if fit is val or features is None else find_concepts(seen[1].regions, fitted.features())
    classes = val.benchmark.classes.order()
    resamples = resample_photos(len(found.photos), params.bootstrap, params.bootstrap_seed)
    rule = semantic.protocol(val.benchmark.short_side_px, val.benchmark.crop_px)
    said = said_of(maker, val.benchmark) | {"images": len(found.photos), "score_rule": maker.said(maker.region_rule)}
    about_fit = said | {"fit_on": fit.benchmark.split}
    if params.concept_runs and known.features is not None and len(known.features):
        measured, deviations = score_kmeans(found, known, classes, resamples, params.concept_runs, seed)
        text = f"k-means of the regions' features into {len(classes)} clusters, {params.concept_runs} runs; {rule}"
        more = about_fit | {"protocol": text, "mapping": "hungarian", "runs": params.concept_runs}
        for each, value in measured.items():
            group.add(KMEANS, {each: value}, more | {"deviation": round(100 * deviations[each], 3)})
    if fit is not val and known.features is not None:
        for count in params.concept_neighbours:
            text = f"class of most of the {count} nearest regions (cosine) of the photos fitted on; {rule}"
            measured = score_neighbours(found, known, classes, resamples, count)
            more = about_fit | {"protocol": text, "mapping": f"{count} nearest neighbours"}
            group.add(NEIGHBOURS.format(count), measured, more)
    if params.text.weights is not None:
        named, how = name_by_text(
            val.manifest, made, found.place, [val.benchmark.class_names[i] for i in classes], params
        )
        mapping = {region: classes[index] for region, index in enumerate(named.tolist())}
        measured = semantic.score_semantic(semantic.class_pixels(found.photos, mapping, classes), resamples)
        group.add(TEXT, measured, said | {"protocol": f"{how}; {rule}"})


def score_kmeans(
    found: Concepts, fit: Concepts, classes: Sequence[int], resamples: Int[np.ndarray, "R B"], runs: int, seed: int
) -> tuple[dict[str, Measured], dict[str, float]]:
    """Scores of k-means and the Hungarian assignment, both on `fit`: means over runs, and their deviations (n - 1)."""
    if fit.features is None:
        raise ValueError("regions without features have no clusters")
    centres = [fit_centres(fit.features, len(classes), seed + run) for run in range(runs)]
    fitted = _clustered(fit, centres)
    named = fitted if found is fit else _clustered(found, centres)
    each = []
    for of_fit, of_found in zip(fitted, named, strict=True):
        mapping = semantic.fit_mapping(of_fit, classes, "hungarian")
        each.append(semantic.score_semantic(semantic.class_pixels(of_found, mapping, classes), resamples))
    means, deviations = {}, {}
    for name in each[0]:
        values = [scores[name].value for scores in each]
        means[name] = Measured(float(np.mean(values)), np.mean([scores[name].resampled for scores in each], axis=0))
        deviations[name] = float(np.std(values, ddof=1)) if runs > 1 else 0.0
    return means, deviations


def score_neighbours(
    found: Concepts, known: Concepts, classes: Sequence[int], resamples: Int[np.ndarray, "R B"], count: int
) -> dict[str, Measured]:
    """Scores of regions that take the class of the `count` nearest known ones."""
    if found.features is None or known.features is None:
        raise ValueError("regions without features have no neighbours")
    named = named_by_neighbours(found.features, known.features, region_classes(known, classes), count)
    mapping = {region: int(each) for region, each in enumerate(named) if each != VOID}
    return semantic.score_semantic(semantic.class_pixels(found.photos, mapping, classes), resamples)


def region_classes(concepts: Concepts, classes: Sequence[int]) -> Int[np.ndarray, " S"]:
    """The class that each region shares most pixels with, the first of equals; `VOID` without a labelled pixel."""
    order = np.array(sorted(classes), dtype=np.int64)
    pixels = np.zeros((len(concepts.place), len(order)), dtype=np.int64)
    for photo in concepts.photos:
        chosen = (photo.clusters != VOID) & np.isin(photo.classes, order)
        columns = np.searchsorted(order, photo.classes[chosen])
        np.add.at(pixels, (photo.clusters[chosen], columns), photo.pixels[chosen])
    return np.where(pixels.any(1), order[pixels.argmax(1)], VOID)


def named_by_neighbours(
    features: Features, known: Features, classes: Int[np.ndarray, " T"], count: int
) -> Int[np.ndarray, " S"]:
    """The class that most of the `count` nearest known features have, by cosine; of equals, that of the nearer one.

    Known features of class `VOID` have no say. Features have unit length.
    """
    known, classes = known.only(np.flatnonzero(classes != VOID)), classes[classes != VOID]
    if len(known) == 0:
        return np.full(len(features), VOID, dtype=np.int64)
    order = np.unique(classes)
    columns, count = np.searchsorted(order, classes), min(count, len(known))
    named = [np.zeros(0, dtype=np.int64)]
    for part in features.parts():
        votes = np.zeros((len(part), len(order)))
        near = _nearest(part, known, count)
        for rank in range(count):  # a nearer one counts a little more, together less than one vote
            votes[np.arange(len(part)), columns[near[:, rank]]] += 1 + 2.0 ** -(rank + 1)
        named.append(order[votes.argmax(1)])
    return np.concatenate(named)


def _clustered(concepts: Concepts, centres: Sequence[Float[np.ndarray, "K C"]]) -> list[list[Confusion]]:
    """The photos with clusters for regions, for each set of centres; features are read once."""
    parts = [] if concepts.features is None else concepts.features.parts()
    names = [[nearest_centre(part, each) for each in centres] for part in parts]
    named = [dict(enumerate(np.concatenate(of_run).tolist())) for of_run in zip(*names, strict=True)]
    return [[renamed(photo, each) for photo in concepts.photos] for each in named]


def _nearest(features: Float[np.ndarray, "S C"], known: Features, count: int) -> Int[np.ndarray, "S count"]:
    """The places of the most similar known features, the most similar first, of equals the first."""
    similar = np.full((len(features), count), -np.inf)
    places = np.zeros((len(features), count), dtype=np.int64)
    first = 0
    for part in known.parts():
        for others in np.array_split(part, 1 + len(features) * len(part) // AT_ONCE):
            both = np.concatenate([similar, features @ others.T], axis=1)
            new = np.broadcast_to(np.arange(first, first + len(others)), (len(features), len(others)))
            at = np.concatenate([places, new], axis=1)
            best = np.argsort(-both, axis=1, kind="stable")[:, :count]
            similar, places = (np.take_along_axis(each, best, axis=1) for each in (both, at))
            first += len(others)
    return places
