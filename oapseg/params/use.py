"""Sections of what follows training: predictions, scores, report, registry."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from oapseg.params.section import (
    Count,
    CountOrZero,
    Device,
    NotNegative,
    Positive,
    Precision,
    Real,
    Section,
    Seed,
    Share,
    Whole,
)


class PredictParams(Section):
    image_px: Count
    scales: list[Count]
    flip: bool
    windows: Count
    window_px: Count
    batch: Count
    device: Device
    precision: Precision
    max_masks: Count
    mask_threshold: Share
    decay_overlaps: bool
    level: Share | None
    crf: bool
    train: bool
    generator: str


class TextParams(Section):
    model: str
    weights: str | None
    embeddings: str | None
    templates: Annotated[list[Annotated[str, Field(pattern=r"\{\}")]], Field(min_length=1)]
    batch: Count


Mapping = Literal["votes", "hungarian", "hungarian+votes"]
FitOn = Literal["val", "train"]


class EvaluateParams(Section):
    max_dets: Count
    mapping: Mapping
    fit_on: FitOn
    vote_score: Share
    vote_iou: Share
    feature_clusters: Count
    panoptic_score: Share
    panoptic_overlap: Share
    stuff_px: CountOrZero
    saliency_score: Share
    saliency_area: Share
    saliency_ratio: Share
    concept_runs: CountOrZero
    concept_neighbours: list[Annotated[Whole, Field(ge=1, le=50)]]
    text: TextParams
    bootstrap: CountOrZero
    bootstrap_seed: Seed


class ReportParams(Section):
    photos: Annotated[Whole, Field(ge=0, le=60)]  # with more, the page's pictures would be too small to see
    extremes: Annotated[Whole, Field(ge=0, le=12)]
    clusters: Annotated[Whole, Field(ge=0, le=100)]
    exemplars: Annotated[Whole, Field(ge=1, le=8)]


def _text(value: Any) -> Any:
    """A number as a person means it where a name or a number may stand."""
    return f"{value:g}" if isinstance(value, int | float) else value


Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class RegisterParams(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    tracking_uri: str
    licences: dict[str, Annotated[str, Field(min_length=1)]]
    gate: Alias
    must_pass: bool


class LimitParams(Section):
    min: Real | None = None
    max_regression: NotNegative | None = None


class GateParams(Section):
    """What a version must be to get an alias: `benchmarks` names the scores that count on each."""

    benchmarks: dict[str, dict[str, LimitParams]]
    licences: list[str] | None


class PromoteParams(Section):
    journal: Annotated[str, Field(min_length=1)]
    version: Annotated[str, BeforeValidator(_text), Field(pattern=r"^([1-9][0-9]*|latest)$")]
    to: Alias
    reason: str
    override: str
    gates: dict[Alias, GateParams]


class ServeParams(Section):
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[Whole, Field(ge=0, le=65535)]
    device: Device
    precision: Precision
    batch: Annotated[Whole, Field(ge=1, le=256)]
    wait_ms: Annotated[NotNegative, Field(le=1000)]
    queue: Annotated[Whole, Field(ge=1, le=10_000)]
    queue_mb: Count
    upload_mb: Annotated[Whole, Field(ge=1, le=1000)]
    megapixels: Annotated[Positive, Field(le=1000)]
    upload_s: Positive
    ahead_s: Positive
    timeout_s: Positive
    answers: Annotated[Whole, Field(ge=1, le=64)]
    follow_s: Annotated[Real, Field(ge=1)] | None
    leave_s: NotNegative
    drain_s: Positive
    min_score: Share

    @model_validator(mode="after")
    def _an_upload_has_room(self) -> "ServeParams":
        if self.upload_mb > self.queue_mb:
            raise ValueError(f"upload_mb must be queue_mb, {self.queue_mb}, or less")
        return self

    @model_validator(mode="after")
    def _who_waits_is_answered_in_time(self) -> "ServeParams":
        for key in ("timeout_s", "drain_s"):
            if self.ahead_s >= (limit := getattr(self, key)):
                raise ValueError(f"ahead_s must be less than {key}, {limit:g}")
        return self


class ExportBoundParams(Section):
    min_iou: Share
    max_score: Share
    max_clusters: Share
    max_loss: Annotated[NotNegative, Field(le=100)]


class ExportBoundsParams(Section):
    fp32: ExportBoundParams
    fp16: ExportBoundParams
    int8: ExportBoundParams


class ExportParams(Section):
    precisions: Annotated[list[Literal["fp32", "fp16", "int8"]], Field(min_length=1)]
    sampling: Literal["gathers", "grid_sample"]
    photos: Count
    bounds: ExportBoundsParams
    cost_photos: CountOrZero


class CompareParams(Section):
    """Settings that stand for those of sections `pool` and `acg` where the published ones are asked for."""

    photos: CountOrZero
    max_failed: Share
    published: dict[str, dict[str, Any]]
    published_acg: dict[str, Any]


class RangeParams(Section):
    """What a setting may be: any number from `low` to `high`, or one of `choices`."""

    low: Real | None = None
    high: Real | None = None
    log: bool = False
    whole: bool = False
    choices: Annotated[list[Any], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> "RangeParams":
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("must have low and high, or choices")
        if self.low is not None and self.high is not None and not (0 if self.log else -math.inf) < self.low < self.high:
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class TuneWeightParams(Section):
    coverage: NotNegative
    edges: NotNegative
    outline: NotNegative
    flips: NotNegative
    crops: NotNegative
    levels: NotNegative


class TuneParams(Section):
    photos: Count
    trials: Count
    crop: Annotated[Real, Field(gt=0.2, lt=1)]
    weights: TuneWeightParams
    ranges: dict[str, dict[str, RangeParams]]
