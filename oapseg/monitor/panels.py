"""What is shown of a training, and together with what: for `oapseg watch`, `oapseg plot` and the dashboards alike."""

from collections.abc import Iterable
from typing import NamedTuple

from oapseg.monitor.metrics import METRICS, find
from oapseg.monitor.rules import RULES, Rule


class Panel(NamedTuple):
    """One picture: a metric, whose labels tell its lines apart, or several of one unit."""

    title: str
    metrics: tuple[str, ...]
    log: bool = False

    @property
    def unit(self) -> str:
        return METRICS[self.metrics[0]].unit

    @property
    def meaning(self) -> str:
        return ". ".join(METRICS[name].meaning for name in self.metrics) + "."

    def lines(self, keys: Iterable[str]) -> dict[str, str]:
        """Of these keys of a history, those that belong here, with what each line is called."""
        named = {}
        for key in keys:
            found = find(key)
            if found is not None and found[0].name in self.metrics:
                labels = " ".join(value for _, value in found[1])
                named[key] = labels or (key.replace("_", " ") if len(self.metrics) > 1 else self.title.lower())
        return named

    def rules(self) -> list[Rule]:
        """Rules on what is shown here that compare with a plain value, for a line in the picture."""
        ours = []
        for rule in RULES:
            found = find(rule.key)
            if found is not None and found[0].name in self.metrics and rule.against == "value":
                ours.append(rule)
        return ours


GROUPS: dict[str, tuple[Panel, ...]] = {
    "Learning": (
        Panel("Loss", ("oapseg_train_loss",)),
        Panel("Parts of the loss", ("oapseg_train_loss_part",)),
        Panel("Gradient norm", ("oapseg_train_gradient_norm",), log=True),
        Panel("Learning rate", ("oapseg_train_learning_rate",)),
        Panel("Teacher's momentum", ("oapseg_train_teacher_momentum_ratio",)),
        Panel("Temperatures", ("oapseg_train_temperature",)),
    ),
    "Masks": (
        Panel("Masks a photo", ("oapseg_masks_per_image",)),
        Panel("Masks by level", ("oapseg_masks_level_per_image",)),
        Panel("Area, quantiles", ("oapseg_mask_area_ratio",)),
        Panel("Coverage", ("oapseg_mask_coverage_ratio",)),
        Panel("Edge alignment", ("oapseg_mask_edge_alignment_ratio",)),
        Panel("Agreement of levels", ("oapseg_mask_level_agreement_ratio",)),
        Panel("Stability between epochs", ("oapseg_mask_stability_ratio",)),
        Panel("Student and teacher", ("oapseg_teacher_student_ratio",)),
        Panel("Matched share of queries", ("oapseg_matched_queries_ratio",)),
    ),
    "Head": (
        Panel("Use of clusters", ("oapseg_head_cluster_use_ratio",)),
        Panel("Teacher's sharpness", ("oapseg_head_teacher_sharpness_ratio",)),
        Panel("Dead clusters", ("oapseg_head_dead_clusters_ratio",)),
        Panel("Largest cluster", ("oapseg_head_largest_cluster_ratio",)),
        Panel("Entropies", ("oapseg_head_cluster_entropy_nats", "oapseg_head_code_entropy_nats")),
        Panel("Norm of the centre", ("oapseg_head_centre_norm",)),
        Panel("Lag of the centre", ("oapseg_head_centre_lag_ratio",)),
    ),
    "Pace": (
        Panel("Photos a second", ("oapseg_train_images_per_second",)),
        Panel("Step", ("oapseg_train_step_seconds",)),
        Panel("Step by part", ("oapseg_train_part_seconds",)),
        Panel("Waiting for photos", ("oapseg_train_loader_wait_ratio",)),
        Panel("Memory of the device", ("oapseg_train_gpu_memory_bytes", "oapseg_train_gpu_memory_peak_bytes")),
        Panel("Use of the device", ("oapseg_train_gpu_utilisation_ratio",)),
        Panel("Age of the checkpoint", ("oapseg_train_checkpoint_age_seconds",)),
        Panel("Checkpoint overdue", ("oapseg_train_checkpoint_overdue_ratio",)),
        Panel("Resumes and going back", ("oapseg_train_resumes", "oapseg_train_rollbacks")),
        Panel("Photos left out", ("oapseg_train_skipped_photos", "oapseg_train_passed_photos")),
    ),
    "Storage": (
        Panel("Requests to S3", ("oapseg_storage_requests_total",)),
        Panel("Time in S3", ("oapseg_storage_seconds_total",)),
        Panel("Tried again", ("oapseg_storage_retries_total",)),
        Panel("Refused or given up", ("oapseg_storage_errors_total",)),
    ),
}
