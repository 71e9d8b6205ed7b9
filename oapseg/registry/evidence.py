"""What a gate judges a version by: its scores on each benchmark, its card, the licences of its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oapseg import storage
from oapseg.checkpoint.export import CARD
from oapseg.evaluate.resamples import RESAMPLES, Resamples, read_resamples
from oapseg.evaluate.scores import MODEL, Score, read_scores
from oapseg.registry.load import sealed_files
from oapseg.registry.server import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS = "metrics.json"
LICENCE = "licence."  # opens the tag of a set's licence


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


@dataclass(frozen=True)
class Evidence:
    """`problem` is what is wrong with the version's files, where they were looked at."""

    version: str  # as people are told
    benchmarks: dict[str, Scored]
    card: str = ""
    licences: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


def read_scored(folder: str | Path) -> Scored:
    """What the step evaluate wrote into a folder. Errors: `ValueError` where there is no score in it."""
    path = storage.join(folder, METRICS)
    scores = read_scores(storage.read_json(path))
    if not scores:
        raise ValueError(f"{path}: holds no score")
    kept = storage.join(folder, RESAMPLES)
    return Scored(scores, read_resamples(kept) if storage.exists(kept) else None)


def read_benchmarks(folders: Sequence[str | Path]) -> dict[str, Scored]:
    """Scores of several folders by the name of their benchmark. Errors: `ValueError` where two have one name."""
    found: dict[str, Scored] = {}
    for folder in folders:
        scored = read_scored(folder)
        if scored.benchmark in found:
            raise ValueError(f"{folder}: scores of {scored.benchmark} again; name each benchmark's folder once")
        found[scored.benchmark] = scored
    return found


def evidence_of(client: "MlflowClient", version: Any, *, whole: bool) -> Evidence:
    """What was registered with a version; `whole`: its files too, each checked by its hash, the hashes by the tag."""
    with artifacts(client, version, "evaluate") as place:
        names = sorted({name.partition("/")[0] for name in storage.list_files(place) if "/" in name})
        benchmarks = read_benchmarks([storage.join(place, name) for name in names])
    card, problem = "", None
    if whole:
        try:
            card = sealed_files(client, version).get(CARD, b"").decode()
        except ValueError as error:
            problem = str(error)
    tags: Mapping[str, str] = version.tags
    licences = {key.removeprefix(LICENCE): value for key, value in tags.items() if key.startswith(LICENCE)}
    return Evidence(f"version {version.version}", benchmarks, card, licences, problem)
