"""Grafana's dashboards as code: every panel from the list of metrics, with its unit, meaning, thresholds and legend."""

from collections.abc import Callable
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import prometheus, stat, text, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

from oapseg.monitor.metrics import METRICS, TRAINING, Metric
from oapseg.monitor.panels import GROUPS, Panel
from oapseg.monitor.serving import SERVING

DATASOURCE = "oapseg-prometheus"  # uid, as k8s/monitoring/grafana provisions it
UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "percent": "percent"}  # as Grafana names them
OURS = 'run=~"$run", rank=~"$rank"'
KNOWN = METRICS | {metric.name: metric for metric in SERVING}
WIDTH, HEIGHT = 8, 8  # of 24 columns


class Shown(NamedTuple):
    """One panel: queries with their legends."""

    title: str
    says: str
    unit: str
    queries: tuple[tuple[str, str], ...]  # PromQL, legend
    limits: tuple[tuple[str, float], ...] = ()  # "<" or ">", and from where on it is bad
    log: bool = False
    kind: str = "timeseries"  # or stat


def of_panel(panel: Panel) -> Shown:
    """What the terminal and the plots show, as a panel."""
    queries = []
    for name in panel.metrics:
        labels = METRICS[name].labels
        several = name.removeprefix("oapseg_").replace("_", " ") if len(panel.metrics) > 1 else ""
        told = [several, *(f"{{{{{label}}}}}" for label in labels), *(f"{{{{{label}}}}}" for label in TRAINING)]
        queries.append((f"{name}{{{OURS}}}", " ".join(word for word in told if word)))
    limits = tuple(dict.fromkeys((rule.sign, rule.limit) for rule in panel.rules()))
    return Shown(panel.title, panel.meaning, panel.unit, tuple(queries), limits, panel.log)


def one(
    title: str, name: str, legend: str, expr: str = "{}", kind: str = "timeseries", unit: str | None = None
) -> Shown:
    """A panel of one metric; `{}` of the expression is its name."""
    metric: Metric = KNOWN[name]
    return Shown(
        title,
        f"{metric.meaning}.",
        metric.unit if unit is None else unit,
        ((expr.replace("{}", name), legend),),
        kind=kind,
    )


WHO = "{{task}} of {{run}}, rank {{rank}}"
STAGE = "{{stage}} of {{run}}"
AT_A_GLANCE = (
    Shown(
        "Alarms now",
        "Alarms that Prometheus raises. docs/runbook.md has a paragraph on each.",
        "",
        (('sum(ALERTS{alertname=~"Oapseg.*", alertstate="firing"}) or vector(0)', "alarms"),),
        ((">", 0.5),),
        kind="stat",
    ),
    one("Steps done", "oapseg_train_step", WHO, f"{{}}{{{OURS}}}", "stat"),
    one("Photos a second", "oapseg_train_images_per_second", "{{run}}", f"sum by (run) ({{}}{{{OURS}}})", "stat"),
)
ALARMS = Shown(
    "Alarms of the training itself",
    "1 where the training itself raises the alarm of a rule.",
    "",
    (("oapseg_train_alarm{" + OURS + "}", "{{rule}} {{run}} {{task}} {{rank}}"),),
    ((">", 0.5),),
)
FLEET = (
    one("Loss", "oapseg_train_loss", "{{run}} {{task}}", 'avg by (run, task) ({}{run=~"$run"})'),
    one(
        "Photos a second, all ranks",
        "oapseg_train_images_per_second",
        "{{run}} {{task}}",
        'sum by (run, task) ({}{run=~"$run"})',
    ),
    one(
        "Student and teacher",
        "oapseg_teacher_student_ratio",
        "{{run}} {{task}}",
        'avg by (run, task) ({}{run=~"$run", measure="iou"})',
    ),
    one(
        "Edge alignment", "oapseg_mask_edge_alignment_ratio", "{{run}} {{task}}", 'avg by (run, task) ({}{run=~"$run"})'
    ),
    one("Use of clusters", "oapseg_head_cluster_use_ratio", "{{run}} {{task}}", 'avg by (run, task) ({}{run=~"$run"})'),
    one(
        "Share of the steps done",
        "oapseg_train_step",
        "{{run}} {{task}}",
        'max by (run, task) ({}{run=~"$run"} / oapseg_train_steps)',
        unit="ratio",
    ),
    one("Resumes", "oapseg_train_resumes", "{{run}} {{task}}", 'max by (run, task) ({}{run=~"$run"})'),
    one(
        "Slowest rank against the fastest",
        "oapseg_train_step_seconds",
        "{{run}} {{task}}",
        'max by (run, task) ({}{run=~"$run"}) / min by (run, task) ({}{run=~"$run"})',
        unit="",
    ),
)
DATA = (
    one("Steps that run", "oapseg_stage_running", STAGE, "{} == 1 or {} == 0"),
    one("Time of a step", "oapseg_stage_seconds", STAGE),
    one("Photos", "oapseg_stage_samples", STAGE),
    one("Photos left out as broken", "oapseg_stage_skipped_samples", STAGE),
    one("Size of the shards", "oapseg_stage_data_bytes", STAGE),
    one("Failures", "oapseg_stage_failed", STAGE),
    one("Waiting for photos", "oapseg_train_loader_wait_ratio", WHO, '{}{run=~"$run"}'),
    one("Photos that trainings do without", "oapseg_train_skipped_photos", WHO, '{}{run=~"$run"}'),
)
SERVED = (
    one("Version that has an alias", "oapseg_alias_version", "{{model}}@{{alias}}", kind="stat"),
    one("Its scores", "oapseg_alias_score", "{{model}}@{{alias}} {{metric}}"),
    one("Scores of the newest run", "oapseg_final_metric", "{{experiment}} {{metric}}", unit="percent"),
    one("Newest run succeeded", "oapseg_run_succeeded", "{{experiment}}", kind="stat"),
    one("Since the newest run", "oapseg_run_end_timestamp_seconds", "{{experiment}}", "time() - {}", "stat"),
    one(
        "Requests",
        "oapseg_serve_requests_total",
        "{{outcome}}",
        "sum by (outcome) (rate({}[5m]))",
        unit="requests per second",
    ),
    one(
        "Refused",
        "oapseg_serve_rejected_total",
        "{{reason}}",
        "sum by (reason) (rate({}[5m]))",
        unit="requests per second",
    ),
    Shown(
        "Time to the answer",
        f"{KNOWN['oapseg_serve_request_seconds'].meaning}: half of the requests, and 95 of 100.",
        "seconds",
        tuple(
            (f"histogram_quantile({share}, sum by (le) (rate(oapseg_serve_request_seconds_bucket[5m])))", name)
            for share, name in ((0.5, "half"), (0.95, "95 %"))
        ),
    ),
    one(
        "Time by phase",
        "oapseg_serve_phase_seconds",
        "{{phase}}",
        "sum by (phase) (rate({}_sum[5m])) / sum by (phase) (rate({}_count[5m]) > 0)",
    ),
    one("Photos at a time", "oapseg_serve_batch_photos", "mean", "sum(rate({}_sum[5m])) / sum(rate({}_count[5m]))"),
    one("Photos that wait", "oapseg_serve_queue_depth", "{{instance}}"),
    one("Photos on their way", "oapseg_serve_requests_in_progress", "{{instance}}"),
    one("Uploads in memory", "oapseg_serve_upload_bytes", "{{instance}}"),
    one("Ready", "oapseg_serve_ready", "{{instance}}", kind="stat"),
    one("Model", "oapseg_serve_model_info", "{{name}} {{version}} {{sha256}}", kind="stat"),
    one("Changes of the model", "oapseg_serve_model_swaps_total", "{{instance}}"),
    one("Model's place not read", "oapseg_serve_follow_errors_total", "{{instance}}"),
)
Rows = dict[str, tuple[Shown, ...]]
BOARDS: dict[str, tuple[str, Rows, tuple[str, ...]]] = {
    "training": (
        "Training",
        {
            "At a glance": AT_A_GLANCE,
            "Learning": tuple(map(of_panel, GROUPS["Learning"])),
            "Pace": tuple(map(of_panel, GROUPS["Pace"])),
            "Alarms": (ALARMS,),
        },
        ("run", "rank"),
    ),
    "masks": (
        "Mask quality",
        {"Masks": tuple(map(of_panel, GROUPS["Masks"])), "Head": tuple(map(of_panel, GROUPS["Head"]))},
        ("run", "rank"),
    ),
    "runs": ("Runs compared", {"Runs": FLEET}, ("run",)),
    "data": ("Data and storage", {"Steps and shards": DATA}, ("run",)),
    "registry": ("Registry and serving", {"Registry": SERVED[:5], "Serving": SERVED[5:]}, ()),
}
PICTURES = (
    "### Pictures\n\nThe report of a run shows its photos beside their masks. Where S3 serves it, give the URL of its "
    "folder in the variable *pictures* above: [report]({p}/work/report/index.html).\n".replace("{p}", "${pictures}")
)


def build(name: str) -> models.Dashboard:
    """One dashboard."""
    title, rows, variables = BOARDS[name]
    board = boards.Dashboard(f"oapseg: {title}").uid(f"oapseg-{name}").tags(["oapseg"]).refresh("30s")
    board = board.time("now-3h", "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).readonly()
    for variable in variables:
        board = board.with_variable(_variable(variable))
    if name == "masks":
        board = board.with_variable(boards.TextBoxVariable("pictures").label("pictures").default_value("https://"))
    for heading, panels in rows.items():
        board = board.with_row(boards.Row(heading))
        for shown in panels:
            board = board.with_panel(_panel(shown))
    if name == "masks":
        board = board.with_panel(text.Panel().title("Pictures").content(PICTURES).span(24).height(4))
    return board.build()


def _variable(name: str) -> Any:
    return (
        boards.QueryVariable(name)
        .label(name)
        .query(f"label_values(oapseg_train_step, {name})")
        .datasource(_source())
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _panel(shown: Shown) -> Any:
    make: Callable[[], Any] = stat.Panel if shown.kind == "stat" else timeseries.Panel
    panel = make().title(shown.title).description(shown.says).datasource(_source()).span(WIDTH).height(HEIGHT)
    panel = panel.unit(UNITS.get(shown.unit, f"suffix: {shown.unit}" if shown.unit else "short"))
    panel = panel.thresholds(_thresholds(shown.limits))
    for number, (expr, legend) in enumerate(shown.queries):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id("ABCDEF"[number]).datasource(_source())
        panel = panel.with_target(query.instant() if shown.kind == "stat" else query.range())
    if shown.kind != "stat":
        panel = panel.fill_opacity(0).line_width(1).show_points(common.VisibilityMode.AUTO)
        if shown.limits:
            panel = panel.thresholds_style(_dashed())
        if shown.log:
            panel = panel.scale_distribution(_logarithmic())
    return panel


def _thresholds(limits: tuple[tuple[str, float], ...]) -> Any:
    """Green where all is well, red beyond a limit on either side."""
    below = max((limit for sign, limit in limits if sign == "<"), default=None)
    steps = [models.Threshold(value=None, color="green" if below is None else "red")]
    if below is not None:
        steps.append(models.Threshold(value=below, color="green"))
    steps += [models.Threshold(value=limit, color="red") for sign, limit in sorted(limits) if sign == ">"]
    return boards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _dashed() -> Any:
    from grafana_foundation_sdk.builders import common as builders

    return builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)


def _logarithmic() -> Any:
    from grafana_foundation_sdk.builders import common as builders

    return builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)


def _source() -> Any:
    return models.DataSourceRef(type_val="prometheus", uid=DATASOURCE)
