"""Every metric there is: name by Prometheus' convention, unit, meaning, labels, and its key in `history.jsonl`.

Labels are bounded: a value that is not listed, or does not match the pattern, is none of this metric. All that a
training says carries `run`, `task` and `rank` too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product

from oapseg.storage import tally

PARTS = ("loader", "teacher", "pool", "student", "match", "loss", "backward", "optimizer")  # of a step, in its order
LEVEL = r"[1-9]\d?"  # a level of pooling
NAME = r"[A-Za-z_][\w.]{0,99}"  # of a score or a set
Row = Mapping[str, float | int]  # a line of the history
OPERATION = {"operation": "|".join(tally.OPERATIONS)}  # of S3
TRAINING = ("run", "task", "rank")  # labels of what a training says


@dataclass(frozen=True)
class Metric:
    """`key` is a template of keys of the history, `{label}` for a label's value."""

    name: str
    unit: str  # seconds, bytes, ratio (0 to 1), nats, or what is counted; "" for plain numbers
    meaning: str
    key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # the pattern of each label's values
    kind: str = "gauge"  # or counter

    def match(self, key: str) -> dict[str, str] | None:
        """The labels that a key of the history stands for; None where it is of another metric."""
        found = _pattern(self).fullmatch(key) if self.key else None
        return None if found is None else found.groupdict()


@cache
def _pattern_of(template: str, labels: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    for name, allowed in labels:
        template = template.replace(f"{{{name}}}", f"(?P<{name}>{allowed})")
    return re.compile(template)


def _pattern(metric: Metric) -> re.Pattern[str]:
    return _pattern_of(metric.key, tuple(metric.labels.items()))


def _one_of(*values: str) -> str:
    return "|".join(values)


LEARNING = (
    Metric("oapseg_train_step", "steps", "Number of the newest step, the first is 0", "step"),
    Metric("oapseg_train_steps", "steps", "Steps that the training takes in all", "steps"),
    Metric("oapseg_train_loss", "", "Weighted sum of the losses", "loss"),
    Metric(
        "oapseg_train_loss_part",
        "",
        "A part of the loss, before its weight",
        "loss_{part}",
        {"part": _one_of("mask", "dice", "objectness", "distill")},
    ),
    Metric("oapseg_train_learning_rate", "", "Learning rate of this step", "lr"),
    Metric("oapseg_train_teacher_momentum_ratio", "ratio", "Share of the teacher that a step keeps", "momentum"),
    Metric(
        "oapseg_train_temperature",
        "",
        "Temperature of a softmax over clusters",
        "{of}_temperature",
        {"of": _one_of("teacher", "student")},
    ),
    Metric("oapseg_train_gradient_norm", "", "Norm of the gradient before it is clipped", "gradient_norm"),
)
PACE = (
    Metric("oapseg_train_step_seconds", "seconds", "Time of the newest step", "seconds"),
    Metric(
        "oapseg_train_part_seconds",
        "seconds",
        "Time of a part of the newest step that was measured",
        "seconds_{part}",
        {"part": _one_of(*PARTS)},
    ),
    Metric(
        "oapseg_train_images_per_second", "images per second", "Photos of this rank learned from", "images_per_second"
    ),
    Metric("oapseg_train_loader_wait_ratio", "ratio", "Share of the time that steps waited for photos", "loader_wait"),
    Metric("oapseg_train_gpu_memory_bytes", "bytes", "Memory of the device held by tensors", "gpu_memory"),
    Metric("oapseg_train_gpu_memory_peak_bytes", "bytes", "Most of it so far", "gpu_memory_peak"),
    Metric(
        "oapseg_train_gpu_utilisation_ratio", "ratio", "Share of the time that the device computed", "gpu_utilisation"
    ),
    Metric("oapseg_train_checkpoint_age_seconds", "seconds", "Time since all state was saved", "checkpoint_age"),
    Metric(
        "oapseg_train_checkpoint_overdue_ratio",
        "intervals",
        "The same in intervals of `checkpoint_every_s`",
        "checkpoint_overdue",
    ),
    Metric("oapseg_train_resumes", "times", "Times that the run went on from a checkpoint", "resumes"),
    Metric("oapseg_train_rollbacks", "times", "Times that the run went back to one for an alarm", "rollbacks"),
    Metric("oapseg_train_skipped_photos", "photos", "Photos that its shards leave out as broken", "skipped_photos"),
    Metric("oapseg_train_passed_photos", "photos", "Photos passed over after an alarm, by all ranks", "passed_photos"),
)
STORAGE = tuple(
    Metric(f"oapseg_storage_{what}_total", unit, meaning, f"storage_{what}_{{operation}}", OPERATION, kind="counter")
    for what, unit, meaning in (
        ("requests", "requests", "Requests that S3 has answered"),
        ("seconds", "seconds", "Time until the whole answer of those was there"),
        ("retries", "requests", "Requests that failed and were made again"),
        ("errors", "requests", "Requests that were refused, or given up"),
    )
)
MASKS = (
    Metric("oapseg_masks_per_image", "masks", "Pseudo-masks a photo, all levels and kinds", "masks"),
    Metric(
        "oapseg_masks_level_per_image",
        "masks",
        "Pseudo-masks a photo, of a level and a kind",
        "masks_{kind}_{level}",
        {"kind": _one_of("instance", "semantic"), "level": LEVEL},
    ),
    Metric(
        "oapseg_mask_area_ratio",
        "ratio",
        "Area of a pseudo-mask as a share of the photo: quantiles in percent",
        "area_p{quantile}",
        {"quantile": _one_of("10", "50", "90")},
    ),
    Metric("oapseg_mask_coverage_ratio", "ratio", "Share of a photo that lies in a pseudo-mask", "coverage"),
    Metric(
        "oapseg_mask_edge_alignment_ratio",
        "ratio",
        "Mean rank of the photo's edges under the masks' boundaries; one half is chance",
        "edge_alignment",
    ),
    Metric(
        "oapseg_mask_level_agreement_ratio",
        "ratio",
        "How much of a level's masks the next level keeps, mean IoU",
        "level_agreement",
    ),
    Metric(
        "oapseg_mask_stability_ratio",
        "ratio",
        "Agreement of a photo's masks with those of the last time it came round, mean IoU",
        "stability",
    ),
    Metric(
        "oapseg_teacher_student_ratio",
        "ratio",
        "Agreement of matched queries with their pseudo-masks",
        "teacher_student_{measure}",
        {"measure": _one_of("iou", "dice")},
    ),
    Metric("oapseg_matched_queries", "queries", "Matched queries a view", "matched"),
    Metric("oapseg_matched_queries_ratio", "ratio", "The same as a share of all queries", "matched_share"),
)
HEAD = (
    Metric("oapseg_head_cluster_entropy_nats", "nats", "Entropy of the mean code of a step's masks", "cluster_entropy"),
    Metric("oapseg_head_code_entropy_nats", "nats", "Mean entropy of a mask's code by itself", "code_entropy"),
    Metric(
        "oapseg_head_cluster_use_ratio",
        "ratio",
        "Entropy of the mean code as a share of what even use has; low: few clusters take all",
        "cluster_use",
    ),
    Metric(
        "oapseg_head_teacher_sharpness_ratio",
        "ratio",
        "1 where each mask has one cluster for sure, 0 where no cluster is chosen",
        "teacher_sharpness",
    ),
    Metric(
        "oapseg_head_dead_clusters_ratio",
        "ratio",
        "Share of the clusters that have had less than a tenth of an even share",
        "dead_clusters",
    ),
    Metric("oapseg_head_largest_cluster_ratio", "ratio", "Share of the most used cluster", "largest_cluster"),
    Metric("oapseg_head_centre_norm", "", "Norm of the centre that is taken off the teacher's logits", "centre_norm"),
    Metric(
        "oapseg_head_centre_lag_ratio",
        "ratio",
        "Distance of the centre from the teacher's mean output, as a share of that output's norm",
        "centre_lag",
    ),
)
HEALTH = (
    Metric(
        "oapseg_train_alarm",
        "",
        "1 where the training itself raises the alarm of this rule",
        "",
        {"rule": "[A-Z][A-Za-z]{1,40}"},
    ),
)
STAGES = (
    Metric("oapseg_stage_running", "", "1 while the step runs, then 0"),
    Metric("oapseg_stage_seconds", "seconds", "Time that the step has taken"),
    Metric("oapseg_stage_failed", "", "1 where the step failed, else 0"),
    Metric("oapseg_stage_samples", "photos", "Photos that the step wrote, or else read"),
    Metric("oapseg_stage_skipped_samples", "photos", "Broken photos that it left out"),
    Metric("oapseg_stage_data_bytes", "bytes", "Size of the shards that it wrote, or else read"),
    Metric("oapseg_stage_storage_seconds", "seconds", "Time that its requests to S3 took, side by side or not"),
    Metric("oapseg_stage_storage_retries", "requests", "Requests to S3 that it made again"),
    Metric("oapseg_stage_storage_errors", "requests", "Requests to S3 that were refused, or given up"),
)
RUNS = (
    Metric("oapseg_run_end_timestamp_seconds", "seconds", "When the newest run ended"),
    Metric("oapseg_run_succeeded", "", "1 where the newest run succeeded, else 0"),
    Metric("oapseg_final_metric", "", "Final metrics of the newest run", labels={"metric": NAME}),
)
REGISTRY = (
    Metric("oapseg_alias_version", "", "The registered version that has the alias"),
    Metric(
        "oapseg_alias_score",
        "percent",
        "Scores of that version",
        labels={"metric": NAME},
    ),
)
TRAIN_METRICS = (*LEARNING, *PACE, *STORAGE, *MASKS, *HEAD, *HEALTH)
METRICS = {metric.name: metric for metric in (*TRAIN_METRICS, *STAGES, *RUNS, *REGISTRY)}


def keys(metric: Metric) -> list[str]:
    """Keys of the history that stand for it; none of one whose labels' values are more than can be listed."""
    if not metric.key or any(re.search(r"[^\w|]", allowed) for allowed in metric.labels.values()):
        return []
    values = product(*(allowed.split("|") for allowed in metric.labels.values()))
    return [metric.key.format(**dict(zip(metric.labels, each, strict=True))) for each in values]


EVERY_KEY = tuple(key for metric in TRAIN_METRICS for key in keys(metric))  # of a device and of S3 too


@cache
def find(key: str) -> tuple[Metric, tuple[tuple[str, str], ...]] | None:
    """The metric and the labels of a key of the history; None of a key that is no metric."""
    for metric in TRAIN_METRICS:
        labels = metric.match(key)
        if labels is not None:
            return metric, tuple(labels.items())
    return None


def samples(row: Row) -> Iterator[tuple[Metric, dict[str, str], float]]:
    """What a line of the history says, as values of metrics."""
    for key, value in row.items():
        found = find(key)
        if found is not None:
            yield found[0], dict(found[1]), float(value)
