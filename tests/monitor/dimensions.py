"""What a panel's query counts in, read off its metrics' names and what is done with them; and the panel's unit."""

import re
from collections import Counter
from typing import Any

from oapseg.monitor.metrics import METRICS
from oapseg.monitor.serving import SERVING

KNOWN = METRICS | {metric.name: metric for metric in SERVING}
BASE = {
    "seconds": "s",
    "bytes": "byte",
    "ratio": "ratio",
    "nats": "nats",
}  # endings that Prometheus' convention asks for
UNITS = {  # of Grafana
    "s": Counter(s=1),
    "bytes": Counter(byte=1),
    "percentunit": Counter(ratio=1),
    "percent": Counter(percent=1),
    "reqps": Counter(requests=1, s=-1),
    "suffix:photos/s": Counter(photos=1, s=-1),
}
OTHERWISE = {  # than the metric's name says
    "oapseg_train_checkpoint_overdue_ratio": Counter(intervals=1),  # no share: it grows beyond one
    "oapseg_final_metric": Counter(percent=1),  # of numbers of all kinds, those that dashboards choose
}
MEASURED = ("s", "byte")  # of all else, so much for each of something is so much

Dimensions = Counter[str]


def asked(expr: str) -> Dimensions:
    """Of a query in PromQL: terms over terms of one metric each."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on) \([^)]*\)", "", expr).split(" or ")[0]
    over, *under = [_term(term) for term in bare.split(" / ")]
    for each in under:
        over.subtract(each)
        for name in [name for name, power in over.items() if power < 0 and name not in MEASURED]:
            del over[name]
    return _whole(over)


def shown(panel: dict[str, Any]) -> Dimensions:
    """Of a panel, as it is written beside its values."""
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    if unit in UNITS:
        return UNITS[unit]
    label = defaults.get("custom", {}).get("axisLabel") or unit.removeprefix("suffix:").replace("short", "")
    if label == "photos per second":
        return UNITS["suffix:photos/s"]
    return Counter({label: 1}) if label else Counter()


def _term(term: str) -> Dimensions:
    (name,) = set(re.findall(r"\b(?:oapseg_\w+|ALERTS)", term))
    dimensions = _of_metric(name)
    if re.search(r"\brate\(", term) and "histogram_quantile" not in term:
        dimensions["s"] -= 1
    return dimensions


def _of_metric(name: str) -> Dimensions:
    if name == "ALERTS":
        return Counter(alarms=1)
    if name in OTHERWISE:
        return Counter(OTHERWISE[name])
    if name not in KNOWN:  # of a histogram
        name, _, part = name.rpartition("_")
        if part == "count":
            return Counter()
    ending = name.removesuffix("_total").rpartition("_")[2]
    if ending in BASE:
        return Counter({BASE[ending]: 1})
    unit = KNOWN[name].unit
    if unit == "images per second":
        return Counter(photos=1, s=-1)
    return Counter({unit: 1}) if unit else Counter()


def _whole(dimensions: Dimensions) -> Dimensions:
    return Counter({name: power for name, power in dimensions.items() if power})


def wrong(panel: dict[str, Any]) -> list[str]:
    """The panel's queries whose values are not of its unit; a share of like things may be a percentage."""
    found = []
    for target in panel["targets"]:
        of_query, of_panel = asked(target["expr"]), shown(panel)
        share = " / " in target["expr"] and not of_query and of_panel == UNITS["percentunit"]
        if of_query != of_panel and not share:
            found.append(f"{panel['title']}: shown in {dict(of_panel)}, {target['expr']} is in {dict(of_query)}")
    return found
