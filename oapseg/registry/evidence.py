"""What a gate judges a version by: its scores on each benchmark, its card, the licences of its data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from oapseg import storage
from oapseg.checkpoint.export import CARD, Files
from oapseg.checkpoint.state import verified
from oapseg.evaluate.resamples import RESAMPLES, Resamples, parse_resamples
from oapseg.evaluate.scores import MODEL, Score, read_scores
from oapseg.registry.load import SEAL_TAG, check_seal, sealed_files, sealed_hash
from oapseg.registry.server import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS = "metrics.json"
LICENCE = "licence."  # opens the tag of a set's licence
SCORES = "scores_sha256."  # opens a benchmark's tag: hash of the `sha256.json` over its files of scores


@dataclass(frozen=True)
class Scored:
    """One benchmark: scores by flat name (`model.mask_AP50`), and the model's on each resample of the photos."""

    scores: dict[str, Score]
    resamples: Resamples | None

    @property
    def benchmark(self) -> str:
        return next(iter(self.scores.values())).benchmark

    def of_model(self, name: str) -> Score | None:
        return self.scores.get(f"{MODEL}.{name}")

    @property
    def checkpoints(self) -> set[str]:
        """`model_hash` of the models that the scores say they are of; an empty one where a score does not say."""
        return {score.checkpoint or "" for flat, score in self.scores.items() if flat.startswith(f"{MODEL}.")}

    def foreign(self, checkpoint: str) -> str | None:
        """What is said where scores are of another model than that of this hash."""
        others = sorted(self.checkpoints - {checkpoint, ""})
        return (
            f"scores of {self.benchmark} are of model {', '.join(others)} and not of {checkpoint}" if others else None
        )

    def no_evidence(self, checkpoint: str) -> str | None:
        """Why these scores say nothing of the model of this hash, where they do not."""
        unsaid = f"scores of {self.benchmark} do not say which model they are of" if "" in self.checkpoints else None
        return self.foreign(checkpoint) or unsaid


@dataclass(frozen=True)
class Evidence:
    """`problem` is what is wrong with the version's files.

    Scores that were changed, or do not say that they are of this very model, are not among `benchmarks`.
    """

    version: str  # as people are told
    benchmarks: dict[str, Scored]
    card: str = ""
    licences: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


def score_files(folder: str | Path) -> Files:
    """What the step evaluate wrote into a folder and a gate goes by."""
    kept = storage.join(folder, RESAMPLES)
    files = {METRICS: storage.read_bytes(storage.join(folder, METRICS))}
    return files | ({RESAMPLES: storage.read_bytes(kept)} if storage.exists(kept) else {})


def scored(files: Files, where: str | Path) -> Scored:
    """Errors: `ValueError` where the files, which come from `where`, hold no score or are not whole."""
    try:
        scores = read_scores(json.loads(files[METRICS]))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{storage.join(where, METRICS)}: not JSON ({error})") from None
    if not scores:
        raise ValueError(f"{storage.join(where, METRICS)}: holds no score")
    try:
        return Scored(scores, parse_resamples(files[RESAMPLES]) if RESAMPLES in files else None)
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{storage.join(where, RESAMPLES)}: not whole, or not as the step evaluate writes it ({error})"
        ) from None


def read_benchmarks(folders: Sequence[str | Path]) -> dict[str, Scored]:
    """Scores of several folders by the name of their benchmark. Errors: `ValueError` where two have one name."""
    found: dict[str, Scored] = {}
    for folder in folders:
        each = scored(score_files(folder), folder)
        if each.benchmark in found:
            raise ValueError(f"{folder}: scores of {each.benchmark} again; name each benchmark's folder once")
        found[each.benchmark] = each
    return found


def evidence_of(client: "MlflowClient", version: Any, *, whole: bool) -> Evidence:
    """What was registered with a version, each file checked by its hash, the hashes by the tags, scores by the model.

    `whole`: all files of the model too, and its card.
    """
    tags: Mapping[str, str] = version.tags
    benchmarks, card, problems, checkpoint = {}, "", [], ""
    seals = _tagged(tags, SCORES)
    try:
        checkpoint = sealed_hash(client, version)
    except ValueError as error:
        problems.append(str(error))
    with artifacts(client, version, "evaluate") as place:
        if not seals and storage.list_files(place):
            problems.append("its scores were registered without a hash")
        for benchmark, seal in seals.items():
            folder = storage.join(place, benchmark)
            try:
                files = verified(folder)
                check_seal(folder, seal, f"models:/{version.name}/{version.version}: scores of {benchmark}")
                found = scored(files, folder)
            except ValueError as error:
                problems.append(str(error))
                continue
            if checkpoint and (wrong := found.no_evidence(checkpoint)):
                problems.append(wrong)
            elif checkpoint:
                benchmarks[benchmark] = found
    if whole:
        if SEAL_TAG not in tags:
            problems.append("its files were registered without a hash")
        try:
            card = sealed_files(client, version).get(CARD, b"").decode()
        except ValueError as error:
            problems.append(str(error))
    who = f"version {version.version}"
    return Evidence(who, benchmarks, card, _tagged(tags, LICENCE), "; ".join(dict.fromkeys(problems)) or None)


def _tagged(tags: Mapping[str, str], opening: str) -> dict[str, str]:
    """The tags that open so, without the opening."""
    return {key.removeprefix(opening): value for key, value in tags.items() if key.startswith(opening)}
