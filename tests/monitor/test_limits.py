"""Every panel says from where on its values are bad, or why it cannot, and shows them in the unit that they are in."""

import copy
import json
import re
from typing import Any

import live
import pytest
from dimensions import wrong

pytest.importorskip("grafana_foundation_sdk", reason="no Grafana SDK: extra dev has it")

from k8s.monitoring.limits import ORANGE, RED, WATCHED, Limit, limits_on, steps
from oapseg.monitor.metrics import METRICS, find
from oapseg.monitor.rules import RULES
from oapseg.monitor.serving import SERVING

PLAIN = {  # panels without a threshold, and why
    "Data and storage: Requests to S3": "as many as there is work",
    "Mask quality: Pictures of ${run}": "a picture",
    "Registry and serving: Version that has an alias": "a name",
    "Registry and serving: Its scores": "what is good depends on the benchmark; the gate judges",
    "Registry and serving: Scores of the newest run": "likewise",
    "Registry and serving: Model": "a name",
    "Registry and serving: Requests": "as many as come",
    "Registry and serving: Photos at a time": "one at a time is well, and a full batch too",
    "Runs compared: Loss": "judged by the run's own median, which is drawn on the dashboard of trainings",
    "Runs compared: Photos a second, all ranks": "likewise",
    "Runs compared: Share of the steps done": "each share is passed on the way",
    "Training: Steps done": "likewise",
    "Training: Photos a second (now)": "judged by the run's own median, below",
    "Training: Parts of the loss": "parts of different scale in one picture",
    "Training: Memory of the device": "how much there is depends on the device",
}


def panels() -> dict[str, dict[str, Any]]:
    found = {}
    for path in live.BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            if panel["type"] != "row":
                found[f"{board['title'].removeprefix('oapseg: ')}: {panel['title']}"] = panel
    return found


def judges(panel: dict[str, Any]) -> bool:
    """Whether something in the panel tells bad from good: a threshold, a state's colour, a curve where alarms begin."""
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    steps = defaults.get("thresholds", {}).get("steps", [])
    legends = [target.get("legendFormat", "") for target in panel.get("targets") or []]
    return len(steps) > 1 or bool(defaults.get("mappings")) or any(each.startswith("alarm ") for each in legends)


def test_no_two_panels_of_a_dashboard_have_one_title() -> None:
    for path in live.BOARDS:
        titles = [panel["title"] for panel in json.loads(path.read_text())["panels"]]
        assert sorted(set(titles)) == sorted(titles)


def test_every_panel_tells_bad_from_good_or_is_listed_with_the_reason_why_not() -> None:
    assert {name for name, panel in panels().items() if not judges(panel)} == set(PLAIN)


def test_the_runbook_names_every_panel_without_a_limit() -> None:
    said = (live.ROOT / "docs/runbook.md").read_text().partition("Panels without a limit:")[2].partition("\n\n")[0]
    assert {name.partition(": ")[2] for name in PLAIN} == set(re.findall(r'"([^"]+)"', " ".join(said.split())))


def test_every_panel_says_what_it_shows() -> None:
    assert [name for name, panel in panels().items() if not panel.get("description")] == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.against == "value"], ids=lambda rule: rule.name)
def test_the_limit_of_a_rule_is_where_the_panels_of_its_metric_turn_red(rule: Any) -> None:
    found = find(rule.key)
    assert found is not None
    ours = [panel for panel in panels().values() if any(found[0].name in t["expr"] for t in panel.get("targets") or [])]
    assert ours
    for panel in ours:
        edges = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        places = [number for number, step in enumerate(edges) if step.get("value") == rule.limit]
        assert places, f"{panel['title']}: no threshold at {rule.limit}"
        beyond = edges[places[0] - 1] if rule.sign == "<" else edges[places[0]]
        assert beyond["color"] == RED, panel["title"]


def test_colours_from_below_are_the_worst_of_the_limits_that_hold() -> None:
    limits = [Limit("<", 1.0, RED), Limit("<", 3.0), Limit(">", 5.0), Limit(">", 9.0, RED), Limit(">", 9.5)]
    assert steps(limits, "green") == [(None, RED), (1.0, ORANGE), (3.0, "green"), (5.0, ORANGE), (9.0, RED)]
    assert steps([], "green") == [(None, "green")]


def test_what_is_watched_is_a_metric_and_no_limit_contradicts_a_rule() -> None:
    assert set(WATCHED) <= set(METRICS) | {metric.name for metric in SERVING}
    for name in WATCHED:
        assert any(colour not in (RED, ORANGE) for _, colour in steps(limits_on([name]), "green")), name


@pytest.mark.parametrize("name", [name for name in panels() if name not in ("Mask quality: Pictures of ${run}",)])
def test_the_unit_of_a_panel_is_what_its_queries_count_in(name: str) -> None:
    assert wrong(panels()[name]) == []


def _unit(unit: str) -> Any:
    return lambda panel: panel["fieldConfig"]["defaults"].update(unit=unit)


def _expr(pattern: str, by: str) -> Any:
    def change(panel: dict[str, Any]) -> None:
        before = panel["targets"][0]["expr"]
        panel["targets"][0]["expr"] = re.sub(pattern, by, before)
        assert panel["targets"][0]["expr"] != before

    return change


PLANTED = {
    "a ratio in plain numbers": ("Training: Waiting for photos", _unit("short")),
    "a ratio in percent": ("Training: Waiting for photos", _unit("percent")),
    "seconds in bytes": ("Training: Step", _unit("bytes")),
    "bytes in plain numbers": ("Registry and serving: Uploads in memory", _unit("short")),
    "a rate in plain numbers": ("Registry and serving: Requests", _unit("short")),
    "a count that should be a rate": ("Registry and serving: Requests", _expr(r"rate\(([^)]*)\[5m\]\)", r"(\1)")),
    "a rate of what is no counter": ("Training: Step", _expr(r"^(.*)$", r"rate(\1[5m])")),
    "a mean without its division": ("Data and storage: Time of a request", _expr(r" / .*", "")),
    "another axis": (
        "Mask quality: Masks a photo",
        lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(axisLabel="photos"),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_wrong_unit_is_found(fault: str) -> None:
    name, change = PLANTED[fault]
    panel = copy.deepcopy(panels()[name])
    assert wrong(panel) == []
    change(panel)
    assert wrong(panel) != []
