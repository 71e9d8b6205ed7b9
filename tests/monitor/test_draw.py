"""Dashboards as pictures: asked as Grafana asks, written as Grafana writes, of a real Prometheus where there is one."""

import copy
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from blocks import prometheus_of
from matplotlib.figure import Figure
from matplotlib.text import Text

from k8s.monitoring import __main__ as command
from k8s.monitoring.ask import Asker, Prometheus, Series, Window, asker, legend, moment
from k8s.monitoring.draw import NOTE, answers, picture, png
from k8s.monitoring.units import spelled

RECORDED = Path(__file__).parent / "recorded"
NAMES = ("healthy_small", "black_photos")
NOWHERE = "http://127.0.0.1:9"
HOUR = Window(0.0, 3600.0, 15.0)


def board(name: str) -> Any:
    return json.loads((command.DASHBOARDS / f"{name}.json").read_text())


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Prometheus]:
    """A Prometheus that has scraped a healthy training and one whose photos turned black."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip("no Prometheus: Debian has it as prometheus")
    histories = {
        name: [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()] for name in NAMES
    }
    with prometheus_of(tmp_path_factory.mktemp("recorded"), histories) as prometheus:
        yield prometheus


def test_the_command_draws_every_dashboard(recorded: live.Prometheus, tmp_path: Path) -> None:
    assert command.main(["draw", "--prometheus", recorded.url, "--out", str(tmp_path / "new")]) == 0
    drawn = {path.stem: path.read_bytes()[:4] for path in (tmp_path / "new").iterdir()}
    assert drawn == dict.fromkeys((path.stem for path in live.BOARDS), b"\x89PNG")


def test_a_picture_shows_titles_legends_alarms_and_that_no_grafana_drew_it(recorded: live.Prometheus) -> None:
    chosen = asker(board("training"), Prometheus(recorded.url), Window(moment("now-1h"), moment("now"), 15.0), {})
    found = answers(board("training"), chosen)
    figure = picture(board("training"), chosen, found)
    said = words(figure)
    assert NOTE in said
    assert {panel["title"] for panel in board("training")["panels"] if panel["type"] != "row"} <= set(said)
    assert {"black_photos pretrain 0", "healthy_small pretrain 0", "72 steps", "photos per second"} <= set(said)
    assert "MaskInflation black_photos pretrain" in said
    assert not any(word.startswith("MaskInflation healthy") for word in said)
    assert png(figure).startswith(b"\x89PNG")


def test_what_has_no_series_says_so_in_the_panels_own_words(recorded: live.Prometheus) -> None:
    chosen = asker(board("training"), Prometheus(recorded.url), Window(moment("now-1h"), moment("now"), 15.0), {})
    assert "a device says this, a CPU does not" in words(picture(board("training"), chosen, {}))
    assert "No data" in words(picture(board("training"), chosen, {}))


def test_a_variable_chooses_runs(recorded: live.Prometheus) -> None:
    prometheus, window = Prometheus(recorded.url), Window(moment("now-1h"), moment("now"), 15.0)
    runs = {}
    for given in ({}, {"run": ["black_photos"]}, {"run": ["black_photos", "other"]}):
        found = answers(board("runs"), asker(board("runs"), prometheus, window, given))
        runs[str(given)] = {series.labels["run"] for each in found.values() for series in each}
    assert list(runs.values()) == [set(NAMES), {"black_photos"}, {"black_photos"}]


def test_a_query_that_prometheus_refuses_is_one_line_with_the_panel(recorded: live.Prometheus) -> None:
    broken = copy.deepcopy(board("runs"))
    broken["panels"][1]["targets"][0]["expr"] += ")"
    chosen = asker(broken, Prometheus(recorded.url), HOUR, {})
    with pytest.raises(ValueError, match=r"^panel 'Loss': avg by .*\): .*parse error"):
        answers(broken, chosen)


BAD = {
    "nobody listens": (["--prometheus", NOWHERE], f"{NOWHERE}: no Prometheus answers (Connection refused)"),
    "no URL": (["--prometheus", "localhost:9090"], "--prometheus: must be a URL such as http://localhost:9090"),
    "no such variable": (["--prometheus", NOWHERE, "--var", "runs=a"], "--var runs: no dashboard has it; there are"),
    "no time": (["--prometheus", NOWHERE, "--from", "yesterday"], "'yesterday': must be a time such as now-3h"),
    "from after to": (["--prometheus", NOWHERE, "--from", "now", "--to", "now-1h"], "--from: must be before --to"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, said = BAD[case]
    assert command.main(["draw", *given, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_something_else_that_answers_is_no_prometheus() -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    port = live.free_port()
    server, _ = start_http_server(port, "127.0.0.1", registry=CollectorRegistry())
    try:
        with pytest.raises(ValueError, match="what answers there is no Prometheus"):
            Prometheus(f"http://127.0.0.1:{port}").instant("up", 0.0)
    finally:
        server.shutdown()
        server.server_close()


def _drawn(kind: str, found: list[Series], **more: Any) -> Figure:
    """A board of one panel with these series."""
    panel = {
        "type": kind,
        "title": "One",
        "gridPos": {"x": 0, "y": 0, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": "percentunit", "custom": {}, **more}},
    }
    whole = {"title": "Board", "panels": [panel]}
    return picture(whole, Asker(Prometheus(NOWHERE), HOUR, {}), {0: found})


STEPS = [{"value": None, "color": "green"}, {"value": 0.5, "color": "red"}]
TWO = [Series("a", {"run": "a"}, [0, 60, 120], [0.1, math.nan, 0.25]), Series("b", {"run": "b"}, [60], [0.75])]


@pytest.mark.parametrize("kind", ["stat", "bargauge"])
def test_a_panel_of_newest_values_shows_them_in_its_unit_and_colours(kind: str) -> None:
    figure = _drawn(kind, TWO, thresholds={"steps": STEPS}, max=1)
    shown = {text.get_text(): text.get_color() for text in figure.findobj(Text)}
    assert {"a", "b", "25%", "75%"} <= set(shown)
    assert shown["25%"] != shown["75%"]


def test_a_value_that_is_mapped_is_shown_as_its_word() -> None:
    mappings = [{"type": "value", "options": {"0.75": {"text": "much", "color": "red", "index": 0}}}]
    assert {"25%", "much"} <= set(words(_drawn("stat", TWO, mappings=mappings)))


def test_curves_have_gaps_limits_and_the_words_of_the_axis() -> None:
    custom = {"axisLabel": "shares", "thresholdsStyle": {"mode": "dashed"}, "axisSoftMax": 0.9}
    (axes,) = _drawn("timeseries", TWO, thresholds={"steps": STEPS}, custom=custom).axes
    assert axes.get_ylabel() == "shares"
    assert axes.get_ylim()[1] == 0.9
    assert [list(line.get_ydata()) for line in axes.lines][-1] == [0.5, 0.5]
    assert math.isnan(axes.lines[0].get_ydata()[1])


def test_states_are_bars_with_a_word_for_each_colour() -> None:
    mappings = [{"type": "value", "options": {"1": {"text": "runs", "color": "blue", "index": 0}}}]
    found = [Series("shard", {}, [0, 600], [1, 1]), Series("pretrain", {}, [600, 1200], [1, math.nan])]
    assert {"shard", "pretrain", "runs"} <= set(words(_drawn("state-timeline", found, mappings=mappings)))


def test_a_kind_or_a_place_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match="panel 'One': a heatmap is not drawn here"):
        _drawn("heatmap", TWO)
    wide = {"type": "text", "title": "Wide", "gridPos": {"x": 8, "y": 0, "w": 24, "h": 4}}
    with pytest.raises(ValueError, match="panel 'Wide': reaches beyond the grid's 24 columns"):
        picture({"title": "Board", "panels": [wide]}, Asker(Prometheus(NOWHERE), HOUR, {}), {})


def test_a_legend_that_does_not_fit_says_how_many_there_are() -> None:
    many = [Series(f"a rather long name {number}", {}, [0, 60], [0.1, 0.2]) for number in range(40)]
    assert "… 40 in all, the others by scrolling" in words(_drawn("timeseries", many))


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.123456, "percentunit", "12.3%"),
        (12.0, "percent", "12%"),
        (1234.5, "short", "1.23 K"),
        (71, "suffix:steps", "71 steps"),
        (1536, "bytes", "1.5 KiB"),
        (0.00025, "s", "250 µs"),
        (90, "s", "1.5 mins"),
        (3600, "s", "1 hour"),
        (0.5, "reqps", "0.5 req/s"),
        (0.00001234, "short", "0.0000123"),
        (-2500, "short", "-2.5 K"),
        (float("inf"), "short", "∞"),
    ],
)
def test_values_are_written_as_grafana_writes_them(value: float, unit: str, written: str) -> None:
    assert spelled(value, unit) == written


def test_every_unit_of_the_dashboards_can_be_written() -> None:
    for path in live.BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            assert spelled(1.5, panel.get("fieldConfig", {}).get("defaults", {}).get("unit", ""))


@pytest.mark.parametrize(
    ("seconds", "width_px", "step_s"),
    [(3 * 3600, 525, 20), (3600, 525, 15), (24 * 3600, 525, 120), (7 * 86400, 525, 1200), (7 * 86400, 10**6, 55)],
)
def test_the_step_is_a_point_a_pixel_rounded_and_no_less_than_a_scrape(
    seconds: float, width_px: int, step_s: float
) -> None:
    assert Window(0.0, seconds, 15.0).step_s(width_px) == step_s


def test_a_legend_takes_labels_and_leaves_out_those_that_are_not_there() -> None:
    labels = {"__name__": "up", "run": "a", "rank": "0"}
    assert legend("{{run}} of {{ rank }}{{none}}", labels) == "a of 0"
    assert legend("", labels) == 'up{run="a", rank="0"}'


def test_variables_of_a_query_are_replaced_and_unknown_ones_named() -> None:
    chosen = Asker(Prometheus(NOWHERE), HOUR, {"run": "a|b"})
    assert chosen.text('x{run=~"$run"}[${run}]') == 'x{run=~"a|b"}[a|b]'
    with pytest.raises(ValueError, match="has no variable rang"):
        chosen.text('x{rank="$rang"}')


@pytest.mark.parametrize(
    ("word", "at"),
    [("now", 1e6), ("now-2h", 1e6 - 7200), ("12.5", 12.5), ("1970-01-01T00:01:00+00:00", 60.0)],
)
def test_times_are_words_numbers_or_dates(word: str, at: float) -> None:
    assert moment(word, now=1e6) == at
