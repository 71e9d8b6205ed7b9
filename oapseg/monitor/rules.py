"""When a training is ill: the one list of rules, for the training itself, `oapseg watch` and Prometheus.

Limits were set on trainings of the embedded sample, healthy ones and ones broken on purpose (`tests/monitor/recorded`).
docs/runbook.md has a paragraph a rule.
"""

from dataclasses import dataclass
from typing import Literal

Action = Literal["warn", "stop", "rollback"]


@dataclass(frozen=True)
class Rule:
    """The mean of `key` over the last `mean_steps` is above or below the limit, for `for_steps`, after `after_step`.

    `against` median makes the limit a multiple of the run's own median so far. A rule on times may only warn: what it
    sees depends on the machine, and a training does not.
    """

    name: str
    key: str  # of the history
    sign: Literal["<", ">"]
    limit: float
    says: str  # what is wrong, in a line
    against: Literal["value", "median"] = "value"
    mean_steps: int = 0  # 0: the newest value alone
    after_step: int = 20
    for_steps: int = 20
    severity: Literal["warning", "critical"] = "warning"
    action: Action = "warn"  # the most that `monitor.action` may have it do


RULES = (
    Rule(
        "ClusterCollapse",
        "cluster_use",
        "<",
        0.3,
        "few clusters take all masks",
        severity="critical",
        action="rollback",
    ),
    Rule(
        "TeacherUndecided",
        "teacher_sharpness",
        "<",
        0.05,
        "the teacher chooses no cluster: its codes are all alike",
        severity="critical",
        action="rollback",
    ),
    Rule(
        "TeacherOverconfident",
        "teacher_sharpness",
        ">",
        0.9,
        "the teacher gives each mask one cluster for sure",
        action="stop",
    ),
    Rule("DeadClusters", "dead_clusters", ">", 0.6, "most clusters are not used", action="stop"),
    Rule("CentreFrozen", "centre_lag", ">", 0.7, "the centre does not follow the teacher's output", action="stop"),
    Rule(
        "MaskInflation",
        "area_p50",
        ">",
        0.5,
        "half of the pseudo-masks fill half of the photo or more",
        severity="critical",
        action="rollback",
    ),
    Rule(
        "MasksOffEdges",
        "edge_alignment",
        "<",
        0.55,
        "the masks' boundaries lie on the photos by chance",
        mean_steps=20,
        severity="critical",
        action="stop",
    ),
    Rule(
        "StudentLost",
        "teacher_student_iou",
        "<",
        0.05,
        "matched queries hardly overlap with their masks",
        mean_steps=20,
        after_step=40,
        severity="critical",
        action="rollback",
    ),
    Rule(
        "LossSpike",
        "loss",
        ">",
        1.5,
        "the loss is far above the run's median",
        against="median",
        after_step=0,
        for_steps=10,
        severity="critical",
        action="rollback",
    ),
    Rule("StarvingLoader", "loader_wait", ">", 0.3, "steps wait for photos three tenths of the time"),
    Rule("StaleCheckpoint", "checkpoint_overdue", ">", 3.0, "no state was saved for three intervals", for_steps=0),
    Rule(
        "ThroughputDrop",
        "images_per_second",
        "<",
        0.4,
        "the pace fell below two fifths of the run's median",
        against="median",
        for_steps=30,
    ),
)
