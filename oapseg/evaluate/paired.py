"""Two runs on the same photos, compared in pairs: every score they share, and what became of each photo.

Both are scored on the same resamples of the photos, so that what a hard photo does to either cancels out: a difference
whose interval leaves out 0 is more than the luck of which photos were drawn. Luck of training is not in it; for that,
train with several seeds.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from oapseg.evaluate.concepts import add_concepts
from oapseg.evaluate.details import photo_scores, task_ids
from oapseg.evaluate.intervals import gain
from oapseg.evaluate.runs import Run, seen_of
from oapseg.evaluate.scores import Group, score_maker

DRAWS: Final = {"bootstrap", "bootstrap_seed"}  # of section evaluate; decide the interval, and no score
SAME: Final = 2e-3  # points of percent that a score may differ from itself by rounding
NAMES_SHOWN: Final = 6  # of settings that differ


class Side(NamedTuple):
    """One of the two: a run, and whose masks of it."""

    run: Run
    maker: str


@dataclass(frozen=True)
class Difference:
    """A score of both, in percent, and by how much the second exceeds the first, with its 95 % interval."""

    a: float
    b: float
    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Change(NamedTuple):
    """How good the predictions of a photo are, in [0, 1], with the one and with the other."""

    image_id: int
    a: float
    b: float


class Comparison(NamedTuple):
    differences: dict[str, Difference]
    photos: dict[str, list[Change]]  # by task; from the one that is most better in the second to the most worse


def compare(a: Side, b: Side) -> Comparison:
    """Everything is computed from the predictions; the draws are those of the first run's parameters.

    Errors: `ValueError` where the two cannot be compared, or a run's predictions are not those that it was scored by.
    """
    check_comparable(a, b)
    ids = task_ids(a.run.val.manifest, a.run.val.benchmark.tasks)
    groups, outcomes = [], []
    for side in (a, b):
        run = side.run
        seen, fit = seen_of(side.maker, run.val, run.fit, run.params, run.seed)
        draws = run.params.model_copy(update={key: getattr(a.run.params, key) for key in DRAWS})
        groups.append(
            score_maker(
                run.makers[side.maker],
                seen,
                fit,
                run.fit.benchmark.split,
                run.val.benchmark,
                draws,
                draws.bootstrap_seed,
            )
        )
        maker = run.makers[side.maker]
        add_concepts(groups[-1], side.maker, maker, run.val, run.fit, (seen, fit), draws, run.seed)
        _check_scored(side, groups[-1])
        outcomes.append(photo_scores(seen, fit, ids, run.val.benchmark, run.params))
    first, second = (group.measured for group in groups)
    differences = {}
    for name in first:
        paired = gain(second[name], first[name]) if name in second else None
        if paired is not None and not np.isnan(paired.value):
            ends = paired.interval() or (None, None)
            values = (_percent(each) for each in (first[name].value, second[name].value, paired.value, *ends))
            differences[name] = Difference(*values)  # type: ignore[arg-type]
    return Comparison(differences, {task: _changes(outcomes, task) for task in outcomes[0]})


def check_comparable(a: Side, b: Side) -> None:
    """Errors: `ValueError` saying what differs: photos, benchmark, how they are scored, or no such maker."""
    for run, maker in (a, b):
        if maker not in run.makers:
            raise ValueError(f"{run.folder}: no predictions by {maker}; there are those by {', '.join(run.makers)}")
    both = f"{a.run.folder} and {b.run.folder} cannot be compared"
    first, second = a.run.val.benchmark, b.run.val.benchmark
    if first.data != second.data:
        said = f"{a.run.val.manifest.num_samples} and {b.run.val.manifest.num_samples} photos"
        raise ValueError(f"{both}: they were scored on different photos or labels ({said})")
    for name in ("name", "tasks", "measures", "max_dets", "classes", "short_side_px", "crop_px"):
        mine, theirs = getattr(first, name), getattr(second, name)
        if mine != theirs:
            raise ValueError(f"{both}: their benchmarks differ in {name} ({_short(mine)} and {_short(theirs)})")
    mine, theirs = (side.run.params.model_dump(mode="json", exclude=DRAWS) for side in (a, b))
    differing = [
        f"evaluate.{key} {_short(mine[key])} and {_short(theirs[key])}" for key in mine if mine[key] != theirs[key]
    ]
    if differing:
        raise ValueError(f"{both}: they were scored differently ({', '.join(differing[:NAMES_SHOWN])})")


def _check_scored(side: Side, group: Group) -> None:
    for name, measured in group.measured.items():
        score = side.run.scores.get(f"{side.maker}.{name}")
        if score is not None and not abs(score.value - 100 * measured.value) <= SAME:
            raise ValueError(
                f"{side.run.folder}: {side.maker}.{name} is {100 * measured.value:.3f} by its predictions and "
                f"{score.value:.3f} in metrics.json; run the step evaluate again"
            )


def _changes(outcomes: list[Any], task: str) -> list[Change]:
    """The photos that both have a value of."""
    first, second = (each[task] for each in outcomes)
    pairs = zip(first.image_ids.tolist(), first.values.tolist(), second.values.tolist(), strict=True)
    known = [Change(*pair) for pair in pairs if not np.isnan(pair[1:]).any()]
    return sorted(known, key=lambda change: (change.a - change.b, change.image_id))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
