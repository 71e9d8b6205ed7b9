"""What the dashboards show: every panel from the list of metrics, with its unit, meaning, limits and legend."""

from typing import Any

from k8s.monitoring.limits import BAD, RED, Limit, limits_on
from k8s.monitoring.shown import KNOWN, OURS, Shown, of_panel, one
from oapseg.monitor.panels import GROUPS

WHO = "{{task}} of {{run}}, rank {{rank}}"
TRAINING = "{{run}} {{task}}"
STAGE = "{{stage}} of {{run}}"
YES_NO = (("1", "succeeded", "green"), ("0", "failed", "red"))
NEWEST = 'last_over_time({}{run=~"$run"}[$__range])'  # a step takes its values away soon after its end
AT_A_GLANCE = (
    Shown(
        "Alarms now",
        "Alarms that Prometheus raises. docs/runbook.md has a paragraph on each.",
        "alarms",
        (('sum(ALERTS{alertname=~"Oapseg.*", alertstate="firing"}) or vector(0)', "alarms"),),
        (BAD,),
        kind="stat",
    ),
    one("Steps done", "oapseg_train_step", "{{run}} {{task}}", f"max by (run, task) ({{}}{{{OURS}}} + 1)", kind="stat"),
    one(
        "Photos a second (now)",
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


def _by_run(title: str, name: str, how: str = "avg", more: str = "", **options: Any) -> Shown:
    """A line a training, of the ranks that are chosen."""
    return one(title, name, TRAINING, f"{how} by (run, task) ({{}}{{{OURS}{more}}})", **options)


FLEET = (
    _by_run("Loss", "oapseg_train_loss"),
    _by_run("Photos a second, all ranks", "oapseg_train_images_per_second", "sum"),
    _by_run("Student and teacher", "oapseg_teacher_student_ratio", more=', measure="iou"'),
    _by_run("Edge alignment", "oapseg_mask_edge_alignment_ratio"),
    _by_run("Use of clusters", "oapseg_head_cluster_use_ratio"),
    one(
        "Share of the steps done",
        "oapseg_train_step",
        TRAINING,
        f"max by (run, task) (({{}}{{{OURS}}} + 1) / oapseg_train_steps)",
        unit="ratio",
    ),
    _by_run("Resumes", "oapseg_train_resumes", "max"),
    one(
        "Slowest rank against the fastest",
        "oapseg_train_step_seconds",
        TRAINING,
        f"max by (run, task) ({{}}{{{OURS}}}) / min by (run, task) ({{}}{{{OURS}}})",
        unit="",
        limits=(Limit(">", 1.3), Limit(">", 2.0, RED)),
    ),
)


def _in_time(title: str, name: str, *words: tuple[str, str, str]) -> Shown:
    """A bar a step, coloured by what its value is called."""
    return one(title, name, STAGE, '{}{run=~"$run"}', kind="statetimeline", words=words)


NO_S3 = "nothing here has asked S3"


def _by_operation(title: str, name: str, how: str = "rate", over: str = "", **options: Any) -> Shown:
    """A line for each kind of request of a training, of the last five minutes."""
    expr = f"sum by (operation, run, task) ({how}({{}}{{{OURS}}}[5m])){over}"
    return one(title, name, "{{operation}} {{run}} {{task}}", expr, nothing=NO_S3, **options)


DATA = (
    _in_time("Steps that run", "oapseg_stage_running", ("1", "runs", "blue"), ("0", "ended", "green")),
    one("Time of a step", "oapseg_stage_seconds", STAGE, NEWEST, kind="bargauge"),
    one("Photos", "oapseg_stage_samples", STAGE, NEWEST, kind="bargauge"),
    one("Photos left out as broken", "oapseg_stage_skipped_samples", STAGE, NEWEST, kind="bargauge"),
    one("Size of the shards", "oapseg_stage_data_bytes", STAGE, NEWEST, kind="bargauge"),
    _in_time("How steps ended", "oapseg_stage_failed", ("0", "well", "green"), ("1", "failed", "red")),
    one("Waiting for photos", "oapseg_train_loader_wait_ratio", WHO, f"{{}}{{{OURS}}}"),
    one("Photos that trainings do without", "oapseg_train_skipped_photos", WHO, f"{{}}{{{OURS}}}"),
)
STORAGE = (
    _by_operation("Requests to S3", "oapseg_storage_requests_total", unit="requests per second"),
    _by_operation(
        "Time of a request",
        "oapseg_storage_seconds_total",
        over=f" / sum by (operation, run, task) (rate(oapseg_storage_requests_total{{{OURS}}}[5m]) > 0)",
        limits=(Limit(">", 1.0), Limit(">", 10.0, RED)),
    ),
    _by_operation(
        "Tried again",
        "oapseg_storage_retries_total",
        unit="requests per second",
        limits=(Limit(">", 0.01), Limit(">", 1.0, RED)),
    ),
    _by_operation("Refused or given up", "oapseg_storage_errors_total", "increase", limits=(BAD,)),
    one("S3's time in a step", "oapseg_stage_storage_seconds", STAGE, NEWEST, kind="bargauge", nothing=NO_S3),
    one("Tried again by a step", "oapseg_stage_storage_retries", STAGE, NEWEST, kind="bargauge", nothing=NO_S3),
    one("Refused to a step", "oapseg_stage_storage_errors", STAGE, NEWEST, kind="bargauge", nothing=NO_S3),
)
REGISTRY = (
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
)
SERVED = (
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
        limits_on(["oapseg_serve_request_seconds"]),
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
    one("Changes of the model in an hour", "oapseg_serve_model_swaps_total", "{{instance}}", "increase({}[1h])"),
    one("Model's place not read, in an hour", "oapseg_serve_follow_errors_total", "{{instance}}", "increase({}[1h])"),
)
Rows = dict[str, tuple[Shown, ...]]
BOTH = ("run", "rank")
BOARDS: dict[str, tuple[str, Rows, tuple[str, ...]]] = {
    "training": (
        "Training",
        {
            "At a glance": (*AT_A_GLANCE, ALARMS),
            "Learning": tuple(map(of_panel, GROUPS["Learning"])),
            "Pace": tuple(map(of_panel, GROUPS["Pace"])),
        },
        BOTH,
    ),
    "masks": (
        "Mask quality",
        {"Masks": tuple(map(of_panel, GROUPS["Masks"])), "Head": tuple(map(of_panel, GROUPS["Head"]))},
        BOTH,
    ),
    "runs": ("Runs compared", {"Runs": FLEET}, BOTH),
    "data": ("Data and storage", {"Steps and shards": DATA, "S3": STORAGE}, BOTH),
    "registry": ("Registry and serving", {"Registry": REGISTRY, "Serving": SERVED}, ()),  # of no run, and no rank
}
PICTURES = (
    "![pseudo-masks of pretraining](${pictures}/${run}/work/pretrain/masks.png)\n\n"
    "![pseudo-masks of fine-tuning](${pictures}/${run}/work/finetune/masks.png)\n\n"
    "Photos of the newest step that was measured when the last checkpoint was saved, below them their pseudo-masks; "
    "[all of the run](${pictures}/${run}/work/report/index.html) once its report is there. The variable *pictures* is "
    "where S3 serves the folder of the runs.\n"
)
