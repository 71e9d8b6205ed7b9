"""Sections of what follows training: predictions, scores, report, registry."""

from typing import Annotated, Literal

from pydantic import Field

from oapseg.params.section import Count, CountOrZero, Device, Precision, Section, Share


class PredictParams(Section):
    image_px: Count
    windows: Count
    window_px: Count
    batch: Count
    device: Device
    precision: Precision
    max_masks: Count
    mask_threshold: Share
    decay_overlaps: bool
    train: bool
    generator: str


class EvaluateParams(Section):
    max_dets: Count
    mapping: Literal["votes", "hungarian", "hungarian+votes"]
    fit_on: Literal["val", "train"]
    vote_score: Share
    vote_iou: Share
    feature_clusters: Count
    panoptic_score: Share
    panoptic_overlap: Share
    stuff_px: CountOrZero
    saliency_score: Share
    saliency_area: Share
    saliency_ratio: Share
    bootstrap: CountOrZero


class ReportParams(Section):
    photos: CountOrZero


class RegisterParams(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    tracking_uri: str
