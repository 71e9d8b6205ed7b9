"""Rules over lines of a history: when an alarm begins, when it ends, and what a rule may ask for."""

from dataclasses import replace

import pytest

from oapseg.monitor.health import Health, first_alarms
from oapseg.monitor.metrics import find
from oapseg.monitor.rules import RULES, Rule

HIGH = Rule("High", "loss", ">", 1.0, "high", after_step=0, for_steps=4, action="stop")
TIMES = ("loader_wait", "images_per_second", "checkpoint_overdue", "seconds")


def rows(*values: float, every: int = 2) -> list[dict[str, float]]:
    return [{"step": every * place, "loss": value} for place, value in enumerate(values)]


def test_an_alarm_begins_when_its_rule_has_held_long_enough_and_not_before() -> None:
    alarms = first_alarms(rows(0, 2, 2, 2, 2), [HIGH])
    assert (alarms["High"].since, alarms["High"].step) == (2, 6)
    assert first_alarms(rows(0, 2, 2, 0, 2, 2, 0), [HIGH]) == {}


def test_an_alarm_is_told_once_and_ends_with_its_cause() -> None:
    health = Health([HIGH])
    told = [len(health.see(row)) for row in rows(2, 2, 2, 2, 0)]
    assert told == [0, 0, 1, 0, 0]
    assert health.alarms == []
    assert health.suspect_since is None


def test_what_holds_but_does_not_fire_yet_is_suspect_unless_it_may_only_warn() -> None:
    for action, since in (("stop", 2), ("warn", None)):
        health = Health([replace(HIGH, action=action)])
        for row in rows(0, 2):
            health.see(row)
        assert health.suspect_since == since


def test_a_limit_may_be_a_multiple_of_the_runs_own_median() -> None:
    spike = Rule("Spike", "loss", ">", 2.0, "spike", against="median", after_step=0, for_steps=0)
    assert first_alarms(rows(5, 6, 5, 11.9), [spike])["Spike"].limit == 11.0
    assert first_alarms(rows(5, 6, 5, 10.9), [spike]) == {}
    assert first_alarms(rows(-0.1, -0.3, 0.0, 0.0), [spike]) == {}


def test_a_mean_over_steps_bears_a_single_outlier() -> None:
    mean = Rule("Mean", "loss", ">", 1.0, "high", mean_steps=6, after_step=0, for_steps=0)
    assert first_alarms(rows(0, 0, 2.9, 0), [mean]) == {}
    assert first_alarms(rows(0, 0, 3.1, 0), [mean])["Mean"].step == 4


def test_before_its_first_step_and_without_its_key_a_rule_is_silent() -> None:
    late = Rule("Late", "loss", ">", 1.0, "high", after_step=5, for_steps=0)
    assert first_alarms(rows(2, 2, 2), [late]) == {}
    assert first_alarms([{"step": 9, "other": 2.0}], [late]) == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_is_about_a_metric_and_one_about_times_may_only_warn(rule: Rule) -> None:
    assert find(rule.key) is not None
    assert rule.action == "warn" or rule.key not in TIMES
