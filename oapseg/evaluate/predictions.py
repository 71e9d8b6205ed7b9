"""Predictions as an artifact: made once, a part for each shard of the photos, and gone on with after a kill.

A folder: `part-000000.json`, a COCO result file of the photos of the first shard; `part-000000.safetensors`, the
features of its masks, where their maker has no clusters of its own; `part-000000.failed.json`, the photos that the
maker failed on, by name, and why, where there are any; `index.json`, what decided them all.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.numpy import load, save
from torch import Tensor

from oapseg import storage
from oapseg.match.features import Features
from oapseg.progress import Progress
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos, Sample

INDEX, MAKERS = "index.json", "makers.json"


@dataclass(frozen=True)
class Maker:
    """Who made masks and how, in words: a trained model, or a generator by its name.

    `checkpoint` is the hash of the model, or of the encoder whose features the generator pooled; `views` is what was
    looked at, at what size, and what else was done to all of them.
    """

    score_rule: str
    region_rule: str
    checkpoint: str | None = None
    generator: str | None = None
    views: str = ""

    def said(self, rule: str) -> str:
        """One of the rules, or both, and the views."""
        return f"{rule}; {self.views}" if self.views else rule


def write_makers(folder: str, makers: dict[str, Maker]) -> None:
    """Whose predictions lie in the folders below this one, the generator's first and the model's last."""
    said = [{"name": name, **asdict(maker)} for name, maker in makers.items()]
    storage.write_json(storage.join(folder, MAKERS), said)


def read_makers(folder: str) -> dict[str, Maker]:
    """Errors: `ValueError` where the step predict has not ended."""
    path = storage.join(folder, MAKERS)
    if not storage.exists(path):
        raise ValueError(f"{folder}: no predictions, or not all; run the step predict first")
    return {said.pop("name"): Maker(**said) for said in storage.read_json(path)}


class PhotoResults(NamedTuple):
    """COCO results of one photo, and a feature for each where there is no cluster to name it by."""

    results: list[dict[str, Any]]
    features: Float[Tensor, "S C"] | None = None


Predict = Callable[[list[Sample]], list[PhotoResults]]


class Parts:
    """The parts of a folder of predictions while they are made: those that are whole, and the one begun.

    `fingerprint` stands for all that decides a prediction: parts of another are made anew. A folder that several
    workers share is never cleared by one of them.

    Errors: `ValueError` where a shared folder holds parts of another fingerprint.
    """

    def __init__(self, folder: str, manifest: Manifest, fingerprint: str, *, shared: bool = False) -> None:
        self.folder = folder
        said = _index(manifest, fingerprint)
        index, content = storage.join(folder, INDEX), json.dumps(said, indent=2, sort_keys=True) + "\n"
        there = storage.list_files(folder) if shared else []  # before the index, which a worker writes first
        if storage.exists(index) and storage.read_json(index) == said:
            return
        if not shared:
            storage.delete(folder)
            storage.write_text(index, content)
            return
        with contextlib.suppress(FileExistsError):
            if not there:
                storage.write_bytes(index, content.encode(), only_if_absent=True)
        if not storage.exists(index) or storage.read_json(index) != said:
            raise ValueError(
                f"{folder}: holds masks of other photos, settings or weights, and several workers share it; "
                "delete it, then start them again"
            )

    def path(self, number: int) -> str:
        return storage.join(self.folder, _part(number))

    def whole(self, number: int) -> bool:
        return storage.exists(self.path(number))

    def begun(self, number: int) -> Any:
        """What `keep` was last given of a part, or nothing."""
        path = _begun(self.path(number))
        return storage.read_json(path) if storage.exists(path) else None

    def keep(self, number: int, done: dict[str, Any]) -> None:
        """Keep what there is of a part that is not whole: plain values, for `begun` after a kill."""
        storage.write_bytes(_begun(self.path(number)), json.dumps(done, allow_nan=False).encode())

    def write(self, number: int, photos: Sequence[PhotoResults], failed: Mapping[str, str] | None = None) -> None:
        """A whole part. Features and the photos that failed come first: a part is whole once its results are there."""
        features = [photo.features for photo in photos if photo.features is not None]
        if features:
            storage.write_bytes(_features(self.path(number)), save({"features": torch.cat(features).half().numpy()}))
        if failed:
            storage.write_json(_failed(self.path(number)), failed)
        elif storage.exists(_failed(self.path(number))):
            storage.delete(_failed(self.path(number)))
        write_results(self.path(number), (result for photo in photos for result in photo.results))
        self.tidy(number)

    def tidy(self, number: int) -> None:
        """Away with what was kept of a part that is whole."""
        if storage.exists(_begun(self.path(number))):
            storage.delete(_begun(self.path(number)))

    def failed(self, number: int) -> dict[str, str]:
        """Photos of a whole part by name that their maker failed on, and why."""
        path = _failed(self.path(number))
        return storage.read_json(path) if storage.exists(path) else {}


def is_whole(folder: str, manifest: Manifest, fingerprint: str) -> bool:
    """Whether a folder holds all predictions of this fingerprint."""
    index, said = storage.join(folder, INDEX), _index(manifest, fingerprint)
    if not storage.exists(index) or storage.read_json(index) != said:
        return False
    return all(storage.exists(storage.join(folder, part)) for part in said["parts"])


def write_predictions(
    folder: str, manifest: Manifest, predict: Predict, *, batch: int, fingerprint: str, what: str
) -> None:
    """Predict all photos of a set, `batch` at a time, shard by shard; parts that are there already are kept."""
    parts = Parts(folder, manifest, fingerprint)
    photos, sizes = Photos(manifest), manifest.shard_sizes
    missing = [number for number in range(len(sizes)) if not parts.whole(number)]
    starts = [0, *accumulate(sizes)]
    there = len(photos) - sum(sizes[number] for number in missing)
    with Progress() as progress:
        bar = progress.add_task(f"masks of the {what}", total=len(photos), completed=there)  # no speed of this run
        for number in missing:
            samples, found = photos.each(range(starts[number], starts[number + 1])), []
            while some := list(islice(samples, batch)):
                found += predict(some)
                progress.advance(bar, len(some))
            parts.write(number, found)


class Predictions:
    """What `write_predictions` made, read part by part.

    Errors: `ValueError` where a part is missing, with what to do.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        index = storage.join(folder, INDEX)
        if not storage.exists(index):
            raise ValueError(f"{folder}: no predictions; run the step predict first")
        self.parts: list[str] = storage.read_json(index)["parts"]
        self.clusters: list[Int[np.ndarray, " S"]] | None = None  # of each part's masks, instead of their own
        missing = [part for part in self.parts if not storage.exists(storage.join(folder, part))]
        if missing:
            raise ValueError(f"{folder}: {len(missing)} of {len(self.parts)} parts missing; run the step predict again")

    def part(self, number: int) -> dict[int, list[dict[str, Any]]]:
        """The results of one shard's photos, by image id; those of a photo are together in the file."""
        results = storage.read_json(storage.join(self.folder, self.parts[number]))
        if self.clusters is not None:
            named = zip(results, self.clusters[number].tolist(), strict=True)
            results = [result | {"category_id": cluster} for result, cluster in named]
        found: dict[int, list[dict[str, Any]]] = {}
        for result in results:
            found.setdefault(result["image_id"], []).append(result)
        return found

    def features(self) -> Features | None:
        """The features of all masks in the order of the parts; none where masks have clusters of their own."""
        files = [storage.join(self.folder, _features(part)) for part in self.parts]
        if not all(map(storage.exists, files)):
            return None
        return Features(
            [_num_features(file) for file in files],
            lambda number: load(storage.read_bytes(files[number]))["features"].astype(np.float32),
        )


def write_results(path: str | Path, results: Iterable[dict[str, Any]]) -> None:
    """A COCO result file, one mask a line, whole or not at all; only one mask is in memory at a time."""
    with storage.atomic_file(path) as file:
        separator = "[\n"
        for result in results:
            file.write(f"{separator}{json.dumps(result, allow_nan=False)}".encode())
            separator = ",\n"
        file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def _num_features(file: str) -> int:
    """Said by the head of the file: eight bytes of its length, little-endian, then JSON."""
    length = int.from_bytes(storage.read_bytes(file, 0, 8), "little")
    return int(json.loads(storage.read_bytes(file, 8, length))["features"]["shape"][0])


def _index(manifest: Manifest, fingerprint: str) -> dict[str, Any]:
    return {"fingerprint": fingerprint, "parts": [_part(number) for number in range(len(manifest.shards))]}


def _part(number: int) -> str:
    return f"part-{number:06d}.json"


def _features(part: str) -> str:
    return part.removesuffix(".json") + ".safetensors"


def _begun(part: str) -> str:
    return part.removesuffix(".json") + ".begun"


def _failed(part: str) -> str:
    return part.removesuffix(".json") + ".failed.json"
