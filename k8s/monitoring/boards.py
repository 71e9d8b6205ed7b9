"""What the dashboards show: every panel from the list of metrics, with its unit, meaning, limits and legend."""

import re
from typing import Any, NamedTuple

from oapseg.monitor.metrics import METRICS, Metric, find
from oapseg.monitor.panels import GROUPS, Panel
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
    limits: tuple[tuple[str, float], ...] = ()  # "<" or ">", and from where on it is bad
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
        expr = f"{name}{{{OURS}}}"
        queries.append(
            (
                f"avg by ({', '.join([*labels, 'run', 'task'])}) ({expr})" if labels else expr,
                " ".join(filter(None, told)),
            )
        )
        says = f"{panel.meaning} Mean of the ranks that are chosen." if labels else says
    limits = tuple(dict.fromkeys((rule.sign, rule.limit) for rule in panel.rules()))
    found = [find(rule.key) for rule in panel.rules()]
    judged = sorted(value for each in found if each for _, value in each[1])
    says += f" The limit is for {', '.join(judged)}." if judged else ""
    nothing = "a device says this, a CPU does not" if "_gpu_" in panel.metrics[0] else ""
    return Shown(panel.title, says, panel.unit, tuple(queries), limits, panel.log, nothing=nothing)


def several(name: str) -> str:
    """What tells a metric from the others of its panel."""
    unit = METRICS[name].unit
    return re.sub(rf"^oapseg_[a-z]+_|_{unit}$" if unit else "^oapseg_[a-z]+_", "", name).replace("_", " ")


def one(title: str, name: str, legend: str, expr: str = "{}", unit: str | None = None, **more: Any) -> Shown:
    """A panel of one metric; `{}` of the expression is its name."""
    metric: Metric = KNOWN[name]
    shown_unit = metric.unit if unit is None else unit
    return Shown(title, f"{metric.meaning}.", shown_unit, ((expr.replace("{}", name), legend),), **more)


WHO = "{{task}} of {{run}}, rank {{rank}}"
STAGE = "{{stage}} of {{run}}"
YES_NO = (("1", "succeeded", "green"), ("0", "failed", "red"))
NEWEST = 'last_over_time({}{run=~"$run"}[$__range])'  # a step takes its values away soon after its end
AT_A_GLANCE = (
    Shown(
        "Alarms now",
        "Alarms that Prometheus raises. docs/runbook.md has a paragraph on each.",
        "alarms",
        (('sum(ALERTS{alertname=~"Oapseg.*", alertstate="firing"}) or vector(0)', "alarms"),),
        ((">", 0.5),),
        kind="stat",
    ),
    one("Steps done", "oapseg_train_step", "{{run}} {{task}}", f"max by (run, task) ({{}}{{{OURS}}} + 1)", kind="stat"),
    one(
        "Photos a second",
        "oapseg_train_images_per_second",
        "{{run}} {{task}}",
        f"sum by (run, task) ({{}}{{{OURS}}})",
        kind="stat",
    ),
)
ALARMS = Shown(
    "Alarms of the training itself",
    "The rules whose alarm the training itself raises, while it does. docs/runbook.md has a paragraph on each.",
    "",
    (("max by (rule, run, task) (oapseg_train_alarm{" + OURS + "}) == 1", "{{rule}} {{run}} {{task}}"),),
    kind="statetimeline",
    words=(("1", "alarm", "red"),),
    nothing="no alarm",
    wide=True,
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
        'max by (run, task) (({}{run=~"$run"} + 1) / oapseg_train_steps)',
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
    one(
        "Steps that run",
        "oapseg_stage_running",
        STAGE,
        kind="statetimeline",
        words=(("1", "runs", "blue"), ("0", "ended", "green")),
    ),
    one("Time of a step", "oapseg_stage_seconds", STAGE, NEWEST, kind="bargauge"),
    one("Photos", "oapseg_stage_samples", STAGE, NEWEST, kind="bargauge"),
    one("Photos left out as broken", "oapseg_stage_skipped_samples", STAGE, NEWEST, kind="bargauge"),
    one("Size of the shards", "oapseg_stage_data_bytes", STAGE, NEWEST, kind="bargauge"),
    one(
        "How steps ended",
        "oapseg_stage_failed",
        STAGE,
        kind="statetimeline",
        words=(("0", "well", "green"), ("1", "failed", "red")),
    ),
    one("Waiting for photos", "oapseg_train_loader_wait_ratio", WHO, '{}{run=~"$run"}'),
    one("Photos that trainings do without", "oapseg_train_skipped_photos", WHO, '{}{run=~"$run"}'),
)
SERVED = (
    one("Version that has an alias", "oapseg_alias_version", "{{model}}@{{alias}}", kind="stat"),
    one("Newest run", "oapseg_run_succeeded", "{{experiment}}", kind="stat", words=YES_NO),
    one("Since the newest run", "oapseg_run_end_timestamp_seconds", "{{experiment}}", "time() - {}", kind="stat"),
    one("Its scores", "oapseg_alias_score", "{{model}}@{{alias}} {{metric}}", kind="bargauge"),
    one(
        "Scores of the newest run",
        "oapseg_final_metric",
        "{{experiment}} {{metric}}",
        '{}{metric=~"(.+[.])?model[.].*(AP50|AR100|mIoU|PQ)"}',
        unit="percent",
    ),
    one(
        "Ready",
        "oapseg_serve_ready",
        "{{instance}}",
        kind="stat",
        words=(("1", "ready", "green"), ("0", "not ready", "red")),
    ),
    one("Model", "oapseg_serve_model_info", "{{name}} version {{version}}", kind="stat", name_only=True),
    one("Photos on their way", "oapseg_serve_requests_in_progress", "{{instance}}", kind="stat"),
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
    one("Expected wait", "oapseg_serve_expected_wait_seconds", "{{instance}}"),
    one("Uploads in memory", "oapseg_serve_upload_bytes", "{{instance}}"),
    one("Changes of the model", "oapseg_serve_model_swaps_total", "{{instance}}"),
    one("Model's place not read", "oapseg_serve_follow_errors_total", "{{instance}}"),
)
Rows = dict[str, tuple[Shown, ...]]
BOARDS: dict[str, tuple[str, Rows, tuple[str, ...]]] = {
    "training": (
        "Training",
        {
            "At a glance": (*AT_A_GLANCE, ALARMS),
            "Learning": tuple(map(of_panel, GROUPS["Learning"])),
            "Pace": tuple(map(of_panel, GROUPS["Pace"])),
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
    "The report of a run shows its photos beside their masks. Where S3 serves the folder of a run, write its URL into "
    "the variable *pictures* above: [report](${pictures}/work/report/index.html).\n"
)
