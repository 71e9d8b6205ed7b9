"""Grafana's dashboards as code: what `boards` lists, as Grafana's own JSON."""

from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import bargauge, prometheus, stat, statetimeline, text, timeseries
from grafana_foundation_sdk.builders import common as builders
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import text as text_models

from k8s.monitoring.boards import BOARDS, PICTURES
from k8s.monitoring.limits import Limit, steps
from k8s.monitoring.shown import Shown

DATASOURCE = "oapseg-prometheus"  # uid, as k8s/monitoring/grafana provisions it
UNITS = {  # as Grafana names them
    "": "short",
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "percent": "percent",
    "requests per second": "reqps",
    "images per second": "suffix:photos/s",
}
SEEN_ON = "oapseg_train_step|oapseg_stage_running"  # what says which runs and ranks there are
KINDS: dict[str, Callable[[], Any]] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "bargauge": bargauge.Panel,
    "statetimeline": statetimeline.Panel,
}
SIZE, STAT, WIDE = (8, 8), (8, 5), (24, 6)  # of 24 columns, and rows
PICTURES_SAY = "Photos and their pseudo-masks of the newest step that was measured before a checkpoint was saved."
BESIDE_LIMIT = 0.1  # of a limit, that an axis shows beyond it


def build(name: str) -> models.Dashboard:
    """One dashboard."""
    title, rows, variables = BOARDS[name]
    board = boards.Dashboard(f"oapseg: {title}").uid(f"oapseg-{name}").tags(["oapseg"]).refresh("30s")
    board = board.time("now-3h", "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).readonly()
    for variable in variables:
        board = board.with_variable(_variable(variable))
    if name == "masks":
        board = board.with_variable(
            boards.TextBoxVariable("pictures").label("pictures, URL").default_value("https://s3.example/oapseg")
        )
    for heading, panels in rows.items():
        board = board.with_row(boards.Row(heading))
        for shown in panels:
            board = board.with_panel(_panel(shown))
    if name == "masks":
        board = board.with_row(boards.Row("Photos"))
        pictures = text.Panel().title("Pictures of ${run}").description(PICTURES_SAY)
        pictures = pictures.mode(text_models.TextMode.MARKDOWN).content(PICTURES)
        board = board.with_panel(pictures.span(24).height(16).repeat("run").transparent(True))
    return board.build()


def _variable(name: str) -> Any:
    return (
        boards.QueryVariable(name)
        .label(name)
        .query(f'label_values({{__name__=~"{SEEN_ON}"}}, {name})')
        .datasource(_source())
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _panel(shown: Shown) -> Any:
    panel = KINDS[shown.kind]().title(shown.title).description(shown.says).datasource(_source())
    width, height = WIDE if shown.wide else STAT if shown.kind == "stat" else SIZE
    panel = panel.span(width).height(height)
    for number, (expr, legend) in enumerate(shown.queries):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id("ABCDEF"[number]).datasource(_source())
        panel = panel.with_target(query.instant() if shown.kind in ("stat", "bargauge") else query.range())
    if shown.words:
        named = {
            value: models.ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, word, colour) in enumerate(shown.words)
        }
        panel = panel.mappings([models.ValueMap(options=named)])
    if shown.nothing:
        panel = panel.no_value(shown.nothing)
    if shown.kind == "timeseries":
        return _curves(panel, shown)
    panel = panel.unit(UNITS.get(shown.unit, f"suffix:{shown.unit}")).thresholds(_thresholds(shown.limits, "green"))
    if shown.kind == "stat":
        panel = panel.reduce_options(builders.ReduceDataOptions().calcs(["lastNotNull"]))
        return panel.text_mode(common.BigValueTextMode.NAME) if shown.name_only else panel
    if shown.kind == "bargauge":
        panel = panel.orientation(common.VizOrientation.HORIZONTAL).display_mode(common.BarGaugeDisplayMode.BASIC)
        return panel.min(0).max(100) if shown.unit == "percent" else panel.min(0)
    return panel.show_value(common.VisibilityMode.NEVER)


def _curves(panel: Any, shown: Shown) -> Any:
    """What is counted stands beside the axis, so that its ticks are bare numbers; beyond a limit it is red."""
    bare = shown.unit not in UNITS or UNITS[shown.unit].startswith("suffix:")
    panel = panel.unit("short" if bare else UNITS[shown.unit])
    panel = panel.axis_label(shown.unit.replace("images", "photos")) if bare else panel
    panel = panel.fill_opacity(0).line_width(1).show_points(common.VisibilityMode.AUTO)
    panel = panel.thresholds(_thresholds(shown.limits, "transparent" if shown.limits else "green"))
    if shown.limits:
        mode = common.GraphTresholdsStyleMode.DASHED_AND_AREA
        panel = panel.thresholds_style(builders.GraphThresholdsStyleConfig().mode(mode))
        for limit in shown.limits:
            if limit.near and limit.sign == "<":
                panel = panel.axis_soft_min(limit.value * (1 - BESIDE_LIMIT))
            elif limit.near:
                panel = panel.axis_soft_max(limit.value * (1 + BESIDE_LIMIT))
    return panel.scale_distribution(_logarithmic()) if shown.log else panel


def _thresholds(limits: tuple[Limit, ...], well: str) -> Any:
    """One colour where all is well, others beyond limits on either side."""
    coloured = [models.Threshold(value=value, color=colour) for value, colour in steps(limits, well)]
    return boards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(coloured)


def _logarithmic() -> Any:
    return builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)


def _source() -> Any:
    return models.DataSourceRef(type_val="prometheus", uid=DATASOURCE)
