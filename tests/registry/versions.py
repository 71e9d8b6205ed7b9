"""Registered versions of a model that is nothing but its files, as good as a test wants them."""

from pathlib import Path

import numpy as np
from registry.cards import COMPLETE

from oapseg import storage
from oapseg.checkpoint.export import (
    CARD,
    CLUSTERS,
    CONFIG,
    HASHES,
    LAYOUT,
    PARAMS,
    WEIGHTS,
    json_bytes,
    model_hash,
    write_files,
)
from oapseg.evaluate.intervals import Measured, resample_photos
from oapseg.evaluate.resamples import RESAMPLES, write_resamples
from oapseg.evaluate.scores import Group, Score, as_json
from oapseg.params import GateParams
from oapseg.registry.evidence import METRICS, SCORES, score_files
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.register import register
from oapseg.registry.server import Place

PHOTOS, DRAWS = 40, 100
NAME, ALIAS = "shapes", "champion"
NAMES = ("mask_AP50", "mask_AR100")
GATE = GateParams.model_validate(
    {"benchmarks": {"val": {"mask_AP50": {"min": 5, "max_regression": 2}}}, "licences": ["CC0-1.0"]}
)
OPEN = GateParams.model_validate({"benchmarks": {}, "licences": None})


def place_in(folder: Path, journal: str | None = None) -> Place:
    return Place(NAME, f"sqlite:///{folder}/mlflow.db", journal or str(folder / "promotions"))


def write_model(folder: Path, weights: bytes) -> Path:
    """A model's files, all but the weights' meaning."""
    files = {WEIGHTS: weights, CONFIG: json_bytes({"layout": LAYOUT}), PARAMS: b"seed: 0\n", CLUSTERS: b"{}\n"}
    write_files(folder, files | {CARD: COMPLETE.encode()})
    return folder


def write_scores(folder: Path, percent: float, model: Path | None) -> Path:
    """What the step evaluate writes, sealed: a score and its resamples, of photos that differ and a model as asked.

    Without a `model` the scores do not say which one they are of.
    """
    photos = np.random.default_rng(0).uniform(-0.05, 0.05, PHOTOS) + percent / 100
    value = Measured(float(photos.mean()), resample_photos(PHOTOS, DRAWS, 0) @ photos / PHOTOS)
    said = {"benchmark": "val", "protocol": "COCO", "split": "val", "images": PHOTOS, "score_rule": "ones", "data": "d"}
    said["checkpoint"] = None if model is None else model_hash(model)
    score = Score(*(round(100 * each, 3) for each in (value.value, *(value.interval() or ()))), **said)
    storage.write_json(folder / METRICS, as_json({f"model.{name}": score for name in NAMES}))
    group = Group(dict.fromkeys(NAMES, value), dict.fromkeys(NAMES, said))
    write_resamples(folder / RESAMPLES, group, DRAWS, 0)
    write_files(folder, score_files(folder))
    return folder


def registered(place: Place, folder: Path, percent: float, of: Path | None = None, **tags: str) -> int:
    """The number of a version that scores so many percent; `of` is the model that its scores are of, if another."""
    weights = f"{percent} {sorted(tags.items())}".encode()
    model = write_model(folder / "model", weights)
    scores = write_scores(folder / "evaluate" / "val", percent, of or model)
    sealed = {SEAL_TAG: storage.sha256(model / HASHES), f"{SCORES}val": storage.sha256(scores / HASHES)}
    return register(
        NAME,
        place.tracking_uri,
        artifacts={"model": model, "evaluate": folder / "evaluate"},
        content=weights.hex(),
        card=COMPLETE,
        metrics={"model.mask_AP50": float(percent)},
        tags={"licence.val": "CC0-1.0"} | sealed | tags,
    ).version
