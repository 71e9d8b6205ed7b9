"""What a dashboard's panels ask of Prometheus, asked as Grafana asks it: time range, step, variables, legends."""

import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

TIMEOUT_S = 30
MOST_POINTS = 11_000  # of a series, that Prometheus answers with
STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)|\[\[(\w+)\]\]")
LABEL_VALUES = re.compile(r"label_values\((?:(?P<series>.+),)?\s*(?P<label>\w+)\)")

Thing = dict[str, Any]  # of a dashboard's JSON


class Series(NamedTuple):
    """What one line shows: NaN where a step has no value. An instant query has one point."""

    name: str
    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Window:
    """What is looked at: seconds since 1970, and the least step between points."""

    start: float
    stop: float
    least_step_s: float

    def step_s(self, width_px: int) -> float:
        """The step of a panel so wide: a point a pixel at most, rounded to what people count in."""
        exact = (self.stop - self.start) / max(width_px, 1)
        rounded = next((a for a, b in pairwise(STEPS_S) if exact <= (a + b) / 2), STEPS_S[-1])
        return float(max(rounded, self.least_step_s, math.ceil((self.stop - self.start) / MOST_POINTS)))


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus at a URL. Errors: `OSError` where none answers, `ValueError` where it refuses what is asked."""

    url: str

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(f"--prometheus: must be a URL such as http://localhost:9090, is {self.url!r}")

    def instant(self, expr: str, at: float) -> list[Thing]:
        return list(self._get("query", {"query": expr, "time": f"{at:.3f}"})["result"])

    def range(self, expr: str, window: Window, step_s: float) -> list[Thing]:
        start, stop = (math.floor(at / step_s) * step_s for at in (window.start, window.stop))
        asked = {"query": expr, "start": f"{start:.3f}", "end": f"{stop:.3f}", "step": f"{step_s:g}"}
        return list(self._get("query_range", asked)["result"])

    def label_values(self, label: str, series: str, window: Window) -> list[str]:
        asked = {"start": f"{window.start:.3f}", "end": f"{window.stop:.3f}"} | ({"match[]": series} if series else {})
        return list(self._get(f"label/{label}/values", asked))

    def _get(self, path: str, asked: Mapping[str, str]) -> Any:
        place = f"{self.url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(place, timeout=TIMEOUT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{asked.get('query', path)}: {_refusal(error)}") from None
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
            raise ValueError(f"{self.url}: what answers there is no Prometheus") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise OSError(
                f"{self.url}: no Prometheus answers ({getattr(reason, 'strerror', None) or reason})"
            ) from None


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: no Prometheus answers there"


def moment(word: str, now: float | None = None) -> float:
    """Seconds since 1970 of `now`, `now-3h`, a number of them, or a date as ISO 8601 has it."""
    now = time.time() if now is None else now
    back = re.fullmatch(r"now(?:-(\d+)([smhdw]))?", word)
    if back:
        return now - int(back[1] or 0) * SECONDS[back[2] or "s"]
    try:
        return float(word) if re.fullmatch(r"[\d.]+", word) else datetime.fromisoformat(word).timestamp()
    except ValueError:
        raise ValueError(f"{word!r}: must be a time such as now-3h, 2026-01-31T12:00, or seconds since 1970") from None


def duration_s(word: str) -> float:
    """Seconds of `15s` or `1m`."""
    found = re.fullmatch(r"(\d+)([smhdw])", word)
    if not found:
        raise ValueError(f"{word!r}: must be a duration such as 15s")
    return float(int(found[1]) * SECONDS[found[2]])


@dataclass(frozen=True)
class Asker:
    """Asks for one dashboard: its variables have values, its window is known."""

    prometheus: Prometheus
    window: Window
    values: Mapping[str, str]  # of variables, as they go into a query
    said: Mapping[str, str] = field(default_factory=dict)  # and as people read them
    first: Mapping[str, str] = field(default_factory=dict)  # of several, the one that a repeated panel begins with

    def text(self, template: str, more: Mapping[str, str] | None = None) -> str:
        """A template with its variables replaced. Errors: `ValueError` of one that the dashboard does not have."""
        values = {**self.values, **(more or {})}

        def value(found: re.Match[str]) -> str:
            name = next(filter(None, found.groups()))
            if name not in values:
                raise ValueError(f"{template}: the dashboard has no variable {name}")
            return values[name]

        return VARIABLE.sub(value, template)

    def series(self, panel: Thing, width_px: int) -> list[Series]:
        """All that a panel's queries answer. Errors: `ValueError` that names the panel."""
        step_s = max(self.window.step_s(width_px), duration_s(panel["interval"]) if panel.get("interval") else 0.0)
        window_s = self.window.stop - self.window.start
        inner = {
            "__interval": f"{step_s:g}s",
            "__rate_interval": f"{max(step_s + self.window.least_step_s, 4 * self.window.least_step_s):g}s",
            "__range": f"{window_s:.0f}s",
        }
        found = []
        for target in panel.get("targets") or []:
            try:
                expr = self.text(target["expr"], inner)
                if target.get("instant"):
                    answers = self.prometheus.instant(expr, self.window.stop)
                    found += [_series(one, target, [one["value"]], 0.0) for one in answers]
                else:
                    answers = self.prometheus.range(expr, self.window, step_s)
                    found += [_series(one, target, one["values"], step_s) for one in answers]
            except ValueError as error:
                raise ValueError(f"panel {panel.get('title')!r}: {error}") from None
        return found


def _series(one: Thing, target: Thing, points: list[list[Any]], step_s: float) -> Series:
    """A gap of steps is NaN, so that no line is drawn across it."""
    labels = one["metric"]
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and step_s and at - times[-1] > 1.5 * step_s:
            times.append(times[-1] + step_s)
            values.append(math.nan)
        times.append(float(at))
        values.append(float(value))
    return Series(legend(target.get("legendFormat", ""), labels), labels, times, values)


def legend(template: str, labels: Mapping[str, str]) -> str:
    """The name of a series; without a template, all that it has."""
    if template in ("", "__auto"):
        inside = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
        return labels.get("__name__", "") + f"{{{inside}}}"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)


def asker(board: Thing, prometheus: Prometheus, window: Window, chosen: Mapping[str, Sequence[str]]) -> Asker:
    """The dashboard's variables, as chosen or as they stand in it. Errors: `ValueError` of one of another kind."""
    values, said, first = {}, {}, {}
    for variable in board.get("templating", {}).get("list", []):
        name = variable["name"]
        if name in chosen:
            picked = [re.escape(each) for each in chosen[name]]
            values[name] = picked[0] if len(picked) == 1 else f"({'|'.join(picked)})"
            said[name], first[name] = ", ".join(chosen[name]), chosen[name][0]
        elif variable["type"] == "textbox":
            values[name] = said[name] = str(variable.get("query") or "")
        elif variable["type"] == "query" and (asked := LABEL_VALUES.fullmatch(variable["query"])):
            there = prometheus.label_values(asked["label"], asked["series"] or "", window)
            values[name] = variable.get("allValue") or f"({'|'.join(map(re.escape, there))})"
            said[name], first[name] = f"All ({', '.join(there) or 'none'})", next(iter(there), "none")
        else:
            raise ValueError(f"variable {name}: of a kind that is not asked for here ({variable['type']})")
    return Asker(prometheus, window, values, said, first)
