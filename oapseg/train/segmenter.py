"""Pretraining and fine-tuning the segmenter (section 4.3): one step on one page, in the paper's order."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from oapseg.checkpoint.optimizer import optimizer_tensors, restore_optimizer, with_prefix, without_prefix
from oapseg.checkpoint.state import State
from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.match.bipartite import Match, dice_cost, match_by_kind
from oapseg.model.mask_decoder import Prediction
from oapseg.model.segmenter import Segmenter
from oapseg.monitor.laps import Laps, device_use
from oapseg.monitor.quality import Observer, pair_measures
from oapseg.params import PretrainParams
from oapseg.pool.generator import Generator
from oapseg.shards.views import Views, cut_masks
from oapseg.train import losses
from oapseg.train.augment import jitter_colour
from oapseg.train.distill import Centre, cluster_health, cross_entropy, teacher_codes
from oapseg.train.distributed import Placement
from oapseg.train.schedules import cosine, linear, warmup_cosine
from oapseg.train.seeds import mix_seeds
from oapseg.train.teacher import follow, make_teacher

NO_DECAY = ("_embed", "_token", "query_", "scale", "prototypes")  # besides norms and biases


class Targets(NamedTuple):
    """What one local view is to learn from its photo's pseudo-masks."""

    masks: Float[Tensor, "S h w"]  # cut to the view
    origin: Int[Tensor, " S"]  # the place of each mask among all masks of the batch
    kind: Int[Tensor, " S"]


class SegmenterTraining:
    """Online pretraining: pseudo-masks are pooled from the teacher's keys inside each step. A `Task` of the loop.

    `batches_from(step)` yields this rank's views of that step and of each one after it. An `observer` measures some
    steps and changes none.
    """

    def __init__(
        self,
        name: str,
        params: PretrainParams,
        student: Segmenter,
        generator: Generator,
        batches_from: Callable[[int], Iterator[list[Views]]],
        steps_per_epoch: float,
        placement: Placement,
        *,
        seed: int,
        observer: Observer | None = None,
    ) -> None:
        self.name, self.params, self.placement, self.seed = name, params, placement, seed
        self.steps, self.generator, self.batches_from = params.steps, generator, batches_from
        self.images, self.observer = params.batch // placement.world, observer
        self._batches: Iterator[list[Views]] | None = None
        self._skipped = 0  # steps whose photos were passed over
        self.freeze_head_steps = params.freeze_head_epochs * steps_per_epoch
        self.student = student.to(placement.device).train()
        if placement.device.type == "cpu":
            self.student.backbone.encoder.use_plain_attention()
        self.teacher = make_teacher(self.student)
        self.centre = Centre(self.student.head.prototypes.shape[0]).to(placement.device)
        self.optimizer = _optimizer(self.student, params)

    def step(self, step: int) -> dict[str, float]:
        params, placement, observer = self.params, self.placement, self.observer
        rates = self._schedule(step)
        random = torch.Generator(placement.device).manual_seed(
            mix_seeds(self.seed, step + self._skipped, placement.rank)
        )
        measured = observer is not None and observer.due(step)
        laps = Laps(placement.device, exact=measured)
        # views
        if self._batches is None:
            self._batches = self.batches_from(step + self._skipped)
        views = next(self._batches)
        laps("loader")
        whole = to_unit(torch.stack([view.whole for view in views]).to(placement.device))
        local = to_unit(torch.cat([view.local for view in views]).to(placement.device))
        local = jitter_colour(local, random)
        # teacher
        with torch.no_grad(), placement.autocast():
            keys, grid = self.teacher.backbone.keys(whole)
        laps("teacher")
        # pool
        masks = self.generator.batch([Patches(photo.float(), grid) for photo in keys])
        laps("pool")
        with torch.no_grad(), placement.autocast():
            teacher_logits = self.teacher.feature_logits(torch.cat([found.features for found in masks]))
        laps("teacher")
        # student
        with placement.autocast():
            predictions = self.student(local)
        laps("student")
        # match
        targets = self._targets(views, masks, predictions[0].mask_logits.shape[-1])
        matches = [_match_layer(prediction, targets, self.student.decoder.kind) for prediction in predictions]
        laps("match")
        # loss
        parts = self._losses(predictions, targets, matches, teacher_logits, rates["teacher_temperature"], random)
        loss = sum(getattr(params, f"weight_{part}") * value for part, value in parts.items())
        laps("loss")
        # step
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        laps("backward")
        if step < self.freeze_head_steps:
            self.student.head.prototypes.grad = None
        trained = [p for p in self.student.parameters() if p.grad is not None]
        placement.average_gradients(trained)
        norm = nn.utils.clip_grad_norm_(trained, params.grad_clip)
        self.optimizer.step()
        # follow
        follow(self.teacher, self.student, rates["momentum"])
        self.centre.update(teacher_logits, params.centre_momentum, placement)
        laps("optimizer")
        codes = teacher_codes(teacher_logits, self.centre.value, rates["teacher_temperature"])
        values = {
            "loss": float(loss.detach()),
            **{f"loss_{part}": float(value.detach()) for part, value in parts.items()},
            **rates,
            "gradient_norm": float(norm),
            "masks": sum(len(found) for found in masks) / len(masks),
            "matched": sum(len(match.query) for match in matches[-1]) / local.shape[0],
            "passed_photos": float(self._skipped * params.batch),
            **cluster_health(codes),
            **{f"seconds_{part}": seconds for part, seconds in laps.seconds.items()},
        }
        # look
        if observer is not None:
            observer.remember([view.whole for view in views], masks)
        if observer is not None and measured:
            wholes = torch.stack([view.whole for view in views]).to(placement.device)
            values |= observer.measure(wholes, masks, codes, teacher_logits, self.centre.value)
            values |= _pairs(predictions[-1], targets, matches[-1]) | device_use(placement.device)
            values["matched_share"] = values["matched"] / len(self.student.decoder.kind)
            values["student_temperature"] = params.student_temperature
        return values

    def state(self, step: int) -> State:
        tensors = {
            **with_prefix("student", self.student.state_dict()),
            **with_prefix("centre", self.centre.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(self.optimizer, self.student)),
        }
        return State(
            step, dict(self.teacher.state_dict()), tensors, {"draw": (step + self._skipped) * self.params.batch}
        )

    def skip(self, steps: int) -> None:
        """Pass over the photos of so many steps, with all that is drawn for them."""
        self._skipped += steps
        self._batches = None

    def begin_from(self, state: State) -> None:
        """Take over what an earlier training learned, with a fresh optimizer and fresh schedules.

        Errors: `ValueError` where it was of another size.
        """
        try:
            self.student.load_state_dict(without_prefix("student", state.tensors))
            self.teacher.load_state_dict(state.model)
            self.centre.load_state_dict(without_prefix("centre", state.tensors))
        except RuntimeError as error:
            first = str(error).split(":", 1)[-1].split("\n\t")[1:2]
            raise ValueError(
                f"{self.name}: the checkpoint does not fit section `model` or the encoder ({''.join(first)}); "
                "restore the sizes it was trained with, or pretrain again"
            ) from None

    def restore(self, state: State) -> None:
        self.begin_from(state)
        self._skipped, self._batches = state.values["draw"] // self.params.batch - state.step, None
        restore_optimizer(self.optimizer, self.student, without_prefix("optimizer", state.tensors))

    def _schedule(self, step: int) -> dict[str, float]:
        """Set the learning rates of this step; the teacher's momentum and temperature come back with them."""
        params = self.params
        rate = warmup_cosine(params.lr, 0.0, step, params.steps, params.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        return {
            "lr": rate,
            "momentum": cosine(params.momentum, 1.0, step, params.steps),
            "teacher_temperature": linear(*params.teacher_temperature, step, params.temperature_warmup_steps),
        }

    def _targets(self, views: list[Views], masks: list[Masks], side: int) -> list[Targets]:
        """The teacher's masks as each local view sees them; those that do not meet the view are dropped."""
        targets, offset = [], 0
        for view, found in zip(views, masks, strict=True):
            for box, flipped in zip(view.boxes_xyxy.to(found.masks.device), view.flipped, strict=True):
                cut = cut_masks(found.masks, box, flipped.to(box.device), side)
                met = (cut > 0.5).flatten(1).any(1)
                index = torch.arange(len(found), device=met.device) + offset
                targets.append(Targets(cut[met], index[met], found.kind[met]))
            offset += len(found)
        return targets

    def _losses(
        self,
        predictions: list[Prediction],
        targets: list[Targets],
        matches: list[list[Match]],
        teacher_logits: Float[Tensor, "M K"],
        temperature: float,
        random: torch.Generator,
    ) -> dict[str, Tensor]:
        """Mask, Dice and objectness losses, mean over the decoder's layers; distillation (Eq. 7) on the last."""
        params, total = self.params, dict.fromkeys(("mask", "dice", "objectness"), torch.zeros(()))
        for prediction, layer in zip(predictions, matches, strict=True):
            logits = torch.cat([mask[match.query] for mask, match in zip(prediction.mask_logits, layer, strict=True)])
            wanted = torch.cat([target.masks[match.target] for target, match in zip(targets, layer, strict=True)])
            points = losses.uncertain_points(
                logits, params.points, oversample=params.oversample, importance=params.importance, generator=random
            )
            point_logits = losses.sample_points(logits, points)
            point_targets = losses.sample_points(wanted, points)
            matched = torch.zeros_like(prediction.objectness)
            for row, match in enumerate(layer):
                matched[row, match.query] = 1.0
            total["mask"] = total["mask"] + losses.mask_loss(point_logits, point_targets).sum() / max(len(logits), 1)
            total["dice"] = total["dice"] + losses.dice_loss(point_logits, point_targets).sum() / max(len(logits), 1)
            total["objectness"] = total["objectness"] + losses.objectness_loss(prediction.objectness, matched)
        parts = {name: value / len(predictions) for name, value in total.items()}
        parts["distill"] = self._distillation(predictions[-1], targets, matches[-1], teacher_logits, temperature)
        return parts

    def _distillation(
        self,
        prediction: Prediction,
        targets: list[Targets],
        matches: list[Match],
        teacher_logits: Float[Tensor, "M K"],
        temperature: float,
    ) -> Float[Tensor, ""]:
        """Each matched query learns the code of its pseudo-mask (Eq. 7), as a mean over the pairs."""
        queries = torch.cat([q[match.query] for q, match in zip(prediction.queries, matches, strict=True)])
        index = torch.cat([target.origin[match.target] for target, match in zip(targets, matches, strict=True)])
        with self.placement.autocast():
            logits = self.student.query_logits(queries)
        codes = teacher_codes(teacher_logits[index], self.centre.value, temperature)
        return cross_entropy(codes, logits, self.params.student_temperature).sum() / max(len(queries), 1)


def to_unit(pixels: UInt8[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """Bytes to values in [0, 1]."""
    return pixels.float() / 255


def _match_layer(prediction: Prediction, targets: list[Targets], query_kind: Tensor) -> list[Match]:
    """Pairs of one decoder layer, for every view."""
    return [
        match_by_kind(dice_cost(logits.detach().flatten(1), target.masks.flatten(1)), query_kind, target.kind)
        for logits, target in zip(prediction.mask_logits, targets, strict=True)
    ]


@torch.no_grad()
def _pairs(prediction: Prediction, targets: list[Targets], matches: list[Match]) -> dict[str, float]:
    """How the matched queries of all views agree with their masks."""
    logits = [mask[match.query] for mask, match in zip(prediction.mask_logits, matches, strict=True)]
    wanted = [target.masks[match.target] for target, match in zip(targets, matches, strict=True)]
    return pair_measures(torch.cat(logits), torch.cat(wanted))


def _optimizer(student: Segmenter, params: PretrainParams) -> torch.optim.AdamW:
    """AdamW; the pretrained encoder learns slower, and norms, biases and embeddings do not decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        encoder = name.startswith("backbone.encoder.")
        decays = parameter.ndim > 1 and not any(part in name for part in NO_DECAY)
        groups.setdefault((encoder, decays), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr_scale": params.encoder_lr_scale if encoder else 1.0,
            "weight_decay": params.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=params.lr)
