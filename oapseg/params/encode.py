"""Sections of the encoder."""

from typing import Annotated

from pydantic import Field, model_validator

from oapseg.params.section import Count, CountOrZero, Device, NotNegative, Positive, Precision, Section, Share, Whole


class EncodeParams(Section):
    name: Annotated[str, Field(min_length=1)]
    weights: str | None

    @model_validator(mode="after")
    def _own_needs_weights(self) -> "EncodeParams":
        if self.name == "own" and self.weights is None:
            raise ValueError("name is own, so weights must name the file that the step encoder wrote")
        return self


class EncoderParams(Section):
    train: bool
    width: Count
    depth: Count
    heads: Count
    patch_px: Annotated[Whole, Field(ge=2, le=64)]
    photo_px: Count
    max_photos: Count
    global_px: Count
    local_px: Count
    local_count: CountOrZero
    global_scale: tuple[Share, Share]
    local_scale: tuple[Share, Share]
    steps: Count
    batch: Count
    lr: Positive
    lr_end: NotNegative
    warmup_steps: CountOrZero
    weight_decay: tuple[NotNegative, NotNegative]
    momentum: Share
    prototypes: Count
    head_hidden: Count
    bottleneck: Count
    student_temperature: Positive
    teacher_temperature: tuple[Positive, Positive]
    temperature_warmup_steps: CountOrZero
    centre_momentum: Share
    freeze_head_steps: CountOrZero
    grad_clip: Positive
    device: Device
    precision: Precision
    checkpoint_every_s: Positive
    log_every: Count

    @model_validator(mode="after")
    def _crops_fit(self) -> "EncoderParams":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        for name in ("global_px", "local_px"):
            if getattr(self, name) % self.patch_px:
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of patch_px {self.patch_px}")
        return self
