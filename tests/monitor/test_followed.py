"""How well a measure follows a score over the checkpoints of several trainings (`benchmarks/label_free.py --runs`)."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from label_free_runs import Runs, followed, measures_at

sys.path.pop()  # a file there has the name of a folder of tests

SCORE = "mask_AP50"
COUNT = 12


def runs(*offsets: float, slope: float = 1.0, noise: float = 0.0) -> Runs:
    """Trainings whose scores wander; a measure follows them, each run from another level."""
    draw = np.random.default_rng(0)
    made: Runs = {}
    for number, offset in enumerate(offsets):
        scores = draw.normal(size=COUNT)
        values = offset + slope * scores + noise * draw.normal(size=COUNT)
        made[str(number)] = {
            f"step-{step}": {"step": float(step), SCORE: float(score), "measure": float(value)}
            for step, (score, value) in enumerate(zip(scores, values, strict=True))
        }
    return made


@pytest.mark.parametrize("slope", [2.0, -0.1])
def test_what_follows_in_each_run_follows_over_all_however_far_apart_they_are(slope: float) -> None:
    found = followed(runs(0, 100, -50, slope=slope), "measure", SCORE)
    assert found is not None
    assert found.rho == pytest.approx(math.copysign(1, slope))
    assert found.points == 3 * COUNT
    assert list(found.by_run.values()) == [pytest.approx(math.copysign(1, slope))] * 3
    assert found.p < 0.01


def test_runs_that_differ_in_level_alone_show_nothing() -> None:
    apart = runs(0, 100, 200, slope=0.0, noise=1.0)
    for place, points in enumerate(apart.values()):
        for point in points.values():
            point[SCORE] += 100 * place  # over all points the two would follow each other
    found = followed(apart, "measure", SCORE)
    assert found is not None
    assert abs(found.rho) < 0.5
    assert found.p > 0.01


def test_of_one_run_it_is_spearmans_correlation() -> None:
    one = runs(0, noise=1.0)
    points = list(one["0"].values())
    known = spearmanr([point["measure"] for point in points], [point[SCORE] for point in points]).statistic
    found = followed(one, "measure", SCORE)
    assert found is not None
    assert found.rho == pytest.approx(known)


def test_what_only_counts_steps_has_nothing_beyond_them() -> None:
    found = followed(runs(0, 5), "step", SCORE)
    assert found is not None
    assert math.isnan(found.beyond_step)
    trend = {"0": {str(step): {"step": float(step), SCORE: float(step), "measure": step**2.0} for step in range(6)}}
    assert followed(trend, "measure", SCORE).rho == pytest.approx(1)  # type: ignore[union-attr]
    assert math.isnan(followed(trend, "measure", SCORE).beyond_step)  # type: ignore[union-attr]


def test_too_few_points_or_a_measure_that_stands_still_are_none() -> None:
    still = runs(0)
    for point in still["0"].values():
        point["measure"] = 3.0
    assert followed(still, "measure", SCORE) is None
    assert followed({"0": dict(list(runs(0)["0"].items())[:3])}, "measure", SCORE) is None
    assert followed(runs(0), "not there", SCORE) is None


def test_a_checkpoint_takes_the_nearest_line_that_has_a_measure() -> None:
    history = {"loss": [(0.0, 9.0), (4.0, 5.0), (8.0, 4.0)], "coverage": [(0.0, 0.2)], "seconds_pool": [(4.0, 1.0)]}
    assert measures_at(history, 5) == {"step": 5.0, "loss": 5.0, "coverage": 0.2}
    assert measures_at(history, 6)["loss"] == 5.0  # the earlier of two that are as near
