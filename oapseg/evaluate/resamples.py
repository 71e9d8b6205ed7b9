"""A model's scores on every resample of the photos, kept so that another model can be compared with it in pairs.

A score of two models differs by much more than chance only as far as both are scored on the same draws of the same
photos. The draws follow from the number of photos and a seed that all models share (`evaluate.bootstrap_seed`), so a
few hundred numbers a score do for what the predictions of both would be needed for otherwise.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load, save

from oapseg import storage
from oapseg.evaluate.columns import release
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.evaluate.scores import Group, Score

RESAMPLES = "resamples.safetensors"
DRAWS = "draws of "  # before the name of a score: hash of the draws that it was measured on


class Resamples(NamedTuple):
    """By score, its value on each resample, in percent, and what tells the draws."""

    values: dict[str, Float[np.ndarray, " R"]]
    draws: dict[str, str]


def write_resamples(path: str | Path, group: Group, count: int, seed: int) -> None:
    """Keep the resamples of one maker's scores; `count` and `seed` are those they were drawn with."""
    tensors: dict[str, np.ndarray] = {}
    images = {name: group.said[name]["images"] for name in group.measured}
    digests = {each: _digest(resample_photos(each, count, seed)) for each in set(images.values())}
    for name, measured in group.measured.items():
        tensors[name] = 100 * np.asarray(measured.resampled, dtype=np.float64)
        tensors[DRAWS + name] = np.frombuffer(digests[images[name]], dtype=np.uint8)
    storage.write_bytes(path, save(tensors))


def _digest(draws: Int[np.ndarray, "R B"]) -> bytes:
    digest = hashlib.sha256()
    for row in draws:
        digest.update(row.astype(np.int64).tobytes())
        release(draws)
    return digest.digest()


def read_resamples(path: str | Path) -> Resamples:
    return parse_resamples(storage.read_bytes(path))


def parse_resamples(content: bytes) -> Resamples:
    tensors = load(content)
    draws = {name.removeprefix(DRAWS): each.tobytes().hex() for name, each in tensors.items() if name.startswith(DRAWS)}
    return Resamples({name: tensors[name] for name in draws}, draws)


def difference(
    name: str, score: Score, resamples: Resamples | None, other: Score, others: Resamples | None
) -> tuple[float, float, float]:
    """By how many points of percent one model's score exceeds another's, with the ends of the paired 95 % interval.

    Errors: `ValueError` where the two cannot be compared, saying in what they differ.
    """
    for field in ("benchmark", "split", "protocol", "data", "images", "mapping", "fit_on"):
        mine, theirs = getattr(score, field), getattr(other, field)
        if mine != theirs:
            raise ValueError(f"{field} differs ({mine} and {theirs})")
    if resamples is None or others is None or name not in resamples.values or name not in others.values:
        raise ValueError("no resamples were kept of one of them")
    if resamples.draws[name] != others.draws[name]:
        raise ValueError("their resamples were drawn differently (evaluate.bootstrap, evaluate.bootstrap_seed)")
    paired = gain(
        Measured(score.value, resamples.values[name]),
        Measured(other.value, others.values[name]),
    )
    ends = paired.interval()
    if ends is None:
        raise ValueError("no resample could be scored (evaluate.bootstrap)")
    return paired.value, *ends
