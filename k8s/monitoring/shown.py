"""One panel of a dashboard: its queries, unit, meaning and limits, made of the list of metrics."""

import re
from typing import Any, NamedTuple

from k8s.monitoring.alerts import median_limit
from k8s.monitoring.limits import Limit, limits_on, rules_on
from oapseg.monitor.metrics import METRICS, Metric, find
from oapseg.monitor.panels import Panel
from oapseg.monitor.serving import SERVING

OURS = 'run=~"$run", rank=~"$rank"'
KNOWN = METRICS | {metric.name: metric for metric in SERVING}
LABEL = {"quantile": "{{quantile}} %", "level": "level {{level}}"}  # in a legend; others as they are


class Shown(NamedTuple):
    """One panel: queries with their legends."""

    title: str
    says: str
    unit: str
    queries: tuple[tuple[str, str], ...]  # PromQL, legend
    limits: tuple[Limit, ...] = ()
    log: bool = False
    kind: str = "timeseries"  # or stat, bargauge, statetimeline
    words: tuple[tuple[str, str, str], ...] = ()  # value, what it is called, its colour
    nothing: str = ""  # what is said where no series answers, of a panel that may well be empty
    name_only: bool = False  # of a stat whose value says nothing
    wide: bool = False  # over the whole width


def of_panel(panel: Panel) -> Shown:
    """What the terminal and the plots show, as a panel; of a metric with labels of its own, the mean of the ranks."""
    queries, says = [], panel.meaning
    for name in panel.metrics:
        labels = METRICS[name].labels
        told = [
            several(name) if len(panel.metrics) > 1 else "",
            *(LABEL.get(each, f"{{{{{each}}}}}") for each in labels),
        ]
        told += ["{{run}} {{task}}", "" if labels else "{{rank}}"]
        expr, legend = f"{name}{{{OURS}}}", " ".join(filter(None, told))
        queries.append((f"avg by ({', '.join([*labels, 'run', 'task'])}) ({expr})" if labels else expr, legend))
        queries += [
            (median_limit(rule, expr), f"alarm {'above' if rule.sign == '>' else 'below'}, {legend}")
            for rule in rules_on(name, "median")
        ]
        says = f"{panel.meaning} Mean of the ranks that are chosen." if labels else says
    found = [find(rule.key) for rule in panel.rules()]
    judged = sorted(value for each in found if each for _, value in each[1])
    says += f" The limit is for {', '.join(judged)}." if judged else ""
    nothing = "a device says this, a CPU does not" if "_gpu_" in panel.metrics[0] else ""
    limits = limits_on(panel.metrics)
    return Shown(panel.title, says, panel.unit, tuple(queries), limits, panel.log, nothing=nothing)


def several(name: str) -> str:
    """What tells a metric from the others of its panel."""
    unit = METRICS[name].unit
    return re.sub(rf"^oapseg_[a-z]+_|_{unit}$" if unit else "^oapseg_[a-z]+_", "", name).replace("_", " ")


def one(
    title: str,
    name: str,
    legend: str,
    expr: str = "{}",
    unit: str | None = None,
    limits: tuple[Limit, ...] | None = None,
    **more: Any,
) -> Shown:
    """A panel of one metric; `{}` of the expression is its name. Without limits it has the metric's."""
    metric: Metric = KNOWN[name]
    shown_unit = metric.unit if unit is None else unit
    ours = limits_on([name]) if limits is None else limits
    return Shown(title, f"{metric.meaning}.", shown_unit, ((expr.replace("{}", name), legend),), ours, **more)
