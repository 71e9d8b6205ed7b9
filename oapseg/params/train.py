"""Sections of the segmenter and its training."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from oapseg.params.section import (
    Count,
    CountOrZero,
    Device,
    NotNegative,
    Positive,
    Precision,
    Real,
    Section,
    Share,
    Whole,
)


class ModelParams(Section):
    interactions: Count
    stem: Annotated[Whole, Field(ge=16, multiple_of=16)]
    width: Count
    ffn: Count
    heads: Count
    points: Count
    pixel_layers: Count
    decoder_layers: Count
    queries_instance: Count
    queries_semantic: Count
    clusters: Count
    head_hidden: Count
    bottleneck: Count

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelParams":
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of heads {self.heads}")
        return self


class PretrainParams(Section):
    steps: Count
    batch: Count
    image_px: Count
    local_px: Count
    local_count: Count
    local_scale: tuple[Share, Share]
    lr: Positive
    warmup_steps: CountOrZero
    weight_decay: NotNegative
    encoder_lr_scale: NotNegative
    freeze_head_epochs: NotNegative
    grad_clip: Positive
    momentum: Share
    student_temperature: Positive
    teacher_temperature: tuple[Positive, Positive]
    temperature_warmup_steps: CountOrZero
    centre_momentum: Share
    weight_mask: NotNegative
    weight_dice: NotNegative
    weight_objectness: NotNegative
    weight_distill: NotNegative
    points: Count
    oversample: Annotated[Real, Field(ge=1)]
    importance: Share
    shuffle_shards: Count
    workers: CountOrZero
    device: Device
    precision: Precision
    checkpoint_every_s: Positive
    log_every: Count


class FinetuneParams(Section):
    steps: Count
    lr: Positive
    warmup_steps: CountOrZero
    # By name: draws follow the order of the sets, and a mapping that went through a form comes back in any.
    mix: Annotated[dict[str, Positive], Field(min_length=1), AfterValidator(lambda mix: dict(sorted(mix.items())))]

    def over(self, pretrain: PretrainParams) -> PretrainParams:
        """The parameters of the loop: those of pretraining, with what fine-tuning changes."""
        return pretrain.model_copy(update={"steps": self.steps, "lr": self.lr, "warmup_steps": self.warmup_steps})


class ACGParams(Section):
    prototypes: Count
    updates: Count
    heads: Count
    ffn: Count
    steps: Count
    batch: Count
    image_px: Count
    lr: Positive
    weight_decay: NotNegative
    shuffle_shards: Count
    workers: CountOrZero
    device: Device
    checkpoint_every_s: Positive
    log_every: Count

    def with_settings(self, other: Mapping[str, Any]) -> "ACGParams":
        """Some settings otherwise, the rest as it is.

        Errors: pydantic's `ValidationError` where there is no such key, or a value is out of range.
        """
        return ACGParams.model_validate({**self.model_dump(), **other})
