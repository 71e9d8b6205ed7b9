"""From where on a value deserves a look: in red the limits of the rules that raise alarms, in orange ours beside them.

Where a rule looks at a metric, its number is taken from `oapseg.monitor.rules`. The others say where a training or a
service is no longer what anyone wants: they colour a panel and raise nothing.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple

from oapseg.monitor.metrics import find
from oapseg.monitor.rules import RULES, Rule
from oapseg.params import default_params_path, load_params

RED, ORANGE = "red", "orange"
DAY_S = 86_400.0


class Limit(NamedTuple):
    """Beyond it, on the side of its sign, the value is of the colour."""

    sign: Literal["<", ">"]
    value: float
    colour: str = ORANGE
    near: bool = False  # whether an axis reaches so far, for one to see how near the value is

    def holds(self, low: float, high: float) -> bool:
        """Whether all between two values is beyond it."""
        return high <= self.value if self.sign == "<" else low >= self.value


ANY = Limit(">", 0.5)  # of what is counted: one is worth a look
BAD = Limit(">", 0.5, RED)  # and where one is bad
NOT = Limit("<", 0.5, RED)  # of what is 1 where all is well
_PARAMS = load_params(default_params_path())
_QUERIES = _PARAMS.model.queries_instance + _PARAMS.model.queries_semantic
WATCHED: Mapping[str, tuple[Limit, ...]] = {  # by metric, in its unit
    "oapseg_train_gradient_norm": (Limit(">", 100.0),),  # clipped at 1 to 3: then hardly a direction is left
    "oapseg_train_learning_rate": (Limit(">", 0.01),),  # ten times what AdamW takes here
    "oapseg_train_teacher_momentum_ratio": (Limit("<", 0.9),),  # the teacher is nearly the student
    "oapseg_train_temperature": (Limit("<", 0.01), Limit(">", 0.2)),  # the papers: 0.04 and 0.1
    "oapseg_masks_per_image": (Limit("<", 3.0), Limit(">", float(_QUERIES))),  # more than queries cannot be matched
    "oapseg_masks_level_per_image": (Limit("<", 0.1),),  # a level that makes none
    "oapseg_mask_coverage_ratio": (Limit("<", 0.3),),
    "oapseg_mask_level_agreement_ratio": (Limit("<", 0.2),),
    "oapseg_mask_stability_ratio": (Limit("<", 0.5),),
    "oapseg_matched_queries_ratio": (Limit("<", 0.05),),
    "oapseg_head_largest_cluster_ratio": (Limit(">", 0.5),),
    "oapseg_head_cluster_entropy_nats": (Limit("<", 0.5),),  # less than two clusters' worth
    "oapseg_head_centre_norm": (Limit(">", 0.5 * math.sqrt(_PARAMS.model.clusters)),),  # of cosines: half of the most
    "oapseg_train_step_seconds": (Limit(">", 60.0), Limit(">", 600.0, RED)),  # red: TrainingStands' window
    "oapseg_train_part_seconds": (Limit(">", 60.0), Limit(">", 600.0, RED)),
    "oapseg_train_gpu_utilisation_ratio": (Limit("<", 0.5),),
    "oapseg_train_checkpoint_age_seconds": (Limit(">", 3600.0),),  # work that a kill would lose
    "oapseg_train_resumes": (ANY, Limit(">", 5.0, RED)),
    "oapseg_train_rollbacks": (ANY,),
    "oapseg_train_skipped_photos": (ANY,),
    "oapseg_train_passed_photos": (ANY,),
    "oapseg_stage_seconds": (Limit(">", DAY_S),),
    "oapseg_stage_samples": (Limit("<", 0.5, RED),),  # a set without photos
    "oapseg_stage_skipped_samples": (ANY,),
    "oapseg_stage_data_bytes": (Limit("<", 1.0, RED),),
    "oapseg_stage_failed": (BAD,),
    "oapseg_stage_storage_seconds": (Limit(">", 3600.0),),
    "oapseg_stage_storage_retries": (ANY,),
    "oapseg_stage_storage_errors": (BAD,),
    "oapseg_run_succeeded": (NOT,),
    "oapseg_run_end_timestamp_seconds": (Limit(">", 7 * DAY_S),),  # since then
    "oapseg_serve_ready": (NOT,),
    "oapseg_serve_requests_in_progress": (
        Limit(">", 0.8 * _PARAMS.serve.queue),
        Limit(">", float(_PARAMS.serve.queue), RED),
    ),
    "oapseg_serve_rejected_total": (Limit(">", 0.05), Limit(">", 1.0, RED)),  # a second
    "oapseg_serve_request_seconds": (Limit(">", 5.0), Limit(">", _PARAMS.serve.timeout_s, RED)),
    "oapseg_serve_phase_seconds": (Limit(">", 5.0), Limit(">", _PARAMS.serve.timeout_s, RED)),
    "oapseg_serve_queue_depth": (
        Limit(">", 0.8 * _PARAMS.serve.queue),
        Limit(">", float(_PARAMS.serve.queue), RED),
    ),
    "oapseg_serve_expected_wait_seconds": (
        Limit(">", 0.5 * _PARAMS.serve.ahead_s),
        Limit(">", float(_PARAMS.serve.ahead_s), RED),
    ),
    "oapseg_serve_upload_bytes": (
        Limit(">", 0.8e6 * _PARAMS.serve.queue_mb),
        Limit(">", 1e6 * _PARAMS.serve.queue_mb, RED),
    ),
    "oapseg_serve_model_swaps_total": (Limit(">", 3.0),),  # in an hour
    "oapseg_serve_follow_errors_total": (ANY,),  # likewise
}


def rules_on(metric: str, against: str) -> list[Rule]:
    """Those that look at a metric, against a plain value or the run's own median."""
    found = [(rule, find(rule.key)) for rule in RULES if rule.against == against]
    return [rule for rule, of in found if of is not None and of[0].name == metric]


def limits_on(metrics: Iterable[str]) -> tuple[Limit, ...]:
    """All limits on some metrics that one panel shows, each once."""
    found: list[Limit] = []
    for name in metrics:
        found += [Limit(rule.sign, rule.limit, RED, near=True) for rule in rules_on(name, "value")]
        found += WATCHED.get(name, ())
    return tuple(dict.fromkeys(found))


def steps(limits: Iterable[Limit], well: str) -> list[tuple[float | None, str]]:
    """Colours from below: from which value on, None for the lowest, and which; red goes before orange."""
    limits = list(limits)
    edges = [float("-inf"), *sorted({limit.value for limit in limits}), float("inf")]
    found: list[tuple[float | None, str]] = []
    for low, high in pairwise(edges):
        beyond = {limit.colour for limit in limits if limit.holds(low, high)}
        colour = RED if RED in beyond else ORANGE if ORANGE in beyond else well
        if not found or found[-1][1] != colour:
            found.append((None if low == float("-inf") else low, colour))
    return found
