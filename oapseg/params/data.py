"""Sections of the data: the sample, shards and their sources, benchmarks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from oapseg.params.refine import CRFParams
from oapseg.params.section import Count, CountOrZero, Section, Share, Whole
from oapseg.params.use import FitOn, Mapping


class SampleParams(Section):
    train: Count
    val: Count
    size_px: Annotated[Whole, Field(ge=64, le=1024)]


WITH_SPLIT = ("coco", "lvis", "voc", "stuff", "cityscapes")
WITH_FOLDERS = ("coco_json", "labels", "saliency", "ytvis")


class Source(Section):
    """Where photos come from: a folder below the set's root, in one of the layouts we read.

    `photos` and `labels` are below the source's folder, in layouts that leave their names open; `only` names a text
    file below the set's root with the photos that count.
    """

    kind: Literal[
        "coco", "classes", "photos", "tar", "coco_json", "lvis", "voc", "kitti", "sa1b", "stuff", "cityscapes",
        "labels", "saliency", "ytvis",
    ]  # fmt: skip
    path: str
    split: str | None = None
    photos: str | None = None
    labels: str | None = None
    only: str | None = None

    @model_validator(mode="after")
    def _names_go_with_kinds(self) -> "Source":
        for name, kinds in (("split", WITH_SPLIT), ("photos", WITH_FOLDERS), ("labels", WITH_FOLDERS)):
            value = getattr(self, name)
            if (self.kind in kinds) != (value is not None):
                said = f"kind is {self.kind}, {name} is {value}"
                raise ValueError(f"{name} goes with kind {', '.join(kinds)} and no other; {said}")
        return self


class SetParams(Section):
    root: str
    sources: Annotated[list[Source], Field(min_length=1)]


class BenchmarkPredictParams(Section):
    """How a benchmark's photos are looked at where its protocol says it; null is as section `predict` has it."""

    image_px: Count | None = None
    scales: list[Count] | None = None
    flip: bool | None = None
    windows: Count | None = None
    window_px: Count | None = None
    crf: bool | None = None


class BenchmarkEvaluateParams(Section):
    """How a benchmark is scored where its protocol says it; null is as section `evaluate` has it."""

    mapping: Mapping | None = None
    fit_on: FitOn | None = None
    vote_score: Share | None = None
    vote_iou: Share | None = None
    panoptic_score: Share | None = None
    panoptic_overlap: Share | None = None
    stuff_px: CountOrZero | None = None
    saliency_score: Share | None = None
    saliency_area: Share | None = None
    saliency_ratio: Share | None = None


class BenchmarkParams(Section):
    """A public data set to score on: its sources, what is scored on it, how its classes are made, and its protocol.

    `fit_sources` are the photos that clusters get their classes on where `evaluate.fit_on` is train. `predict`,
    `evaluate` and `crf` stand for the sections `predict`, `evaluate` and `refine.crf`, key by key, on this benchmark.
    """

    root: str
    sources: Annotated[list[Source], Field(min_length=1)]
    fit_sources: Annotated[list[Source], Field(min_length=1)] | None = None
    tasks: Annotated[list[Literal["instance", "semantic", "panoptic", "saliency"]], Field(min_length=1)]
    classes: Literal["coco_stuff27", "coco_u2seg", "cityscapes27", "cityscapes19"] | None = None
    measures: Annotated[list[Literal["mask", "box"]], Field(default_factory=list)]
    max_dets: Count = 100
    short_side_px: Count | None = None
    crop_px: Count | None = None
    predict: Annotated[BenchmarkPredictParams, Field(default_factory=BenchmarkPredictParams)]
    evaluate: Annotated[BenchmarkEvaluateParams, Field(default_factory=BenchmarkEvaluateParams)]
    crf: CRFParams | None = None

    @model_validator(mode="after")
    def _measures_go_with_instances(self) -> "BenchmarkParams":
        if ("instance" in self.tasks) != bool(self.measures):
            tasks, measures = ", ".join(self.tasks), ", ".join(self.measures) or "none"
            raise ValueError(f"measures go with task instance and no other; tasks are {tasks}, measures {measures}")
        return self

    @model_validator(mode="after")
    def _crops_are_cut_from_what_is_resized(self) -> "BenchmarkParams":
        if self.crop_px is not None and (self.short_side_px is None or self.crop_px > self.short_side_px):
            raise ValueError(f"crop_px {self.crop_px} must be at most short_side_px, which is {self.short_side_px}")
        return self


class ShardsParams(Section):
    samples_per_shard: Count
    max_broken: Share
    max_pixels: Count
    workers: Count
    sets: dict[str, SetParams]
