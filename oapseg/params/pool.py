"""Sections of the generators of pseudo-masks, one below `pool` for each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from oapseg.params.refine import CRFParams
from oapseg.params.section import Count, CountOrZero, Positive, Real, Section, Share


class OAPParams(Section):
    tau: Annotated[list[Annotated[Real, Field(ge=-1, le=1)]], Field(min_length=1)]
    sigma: Positive
    omega_f: Share
    phi: Count
    vote: Literal["sum", "mean"]
    rounds: Literal[1, "stable"]
    chunk: Count


Cosine = Annotated[Real, Field(ge=-1, le=1)]
Solver = Literal["lanczos", "eigh"]


class TokenCutParams(Section):
    tau: Cosine
    eps: Annotated[Positive, Field(lt=1)]
    edges: Literal["binary", "cosine"]
    solver: Solver


class MaskCutParams(Section):
    tau: Cosine
    eps: Annotated[Positive, Field(lt=1)]
    num_masks: Count
    corners: Annotated[Count, Field(le=4)]
    max_iou: Share
    min_area: Share
    compared: Literal["every", "previous"]
    solver: Solver
    crf: CRFParams | None


class DivideConquerParams(Section):
    confidence: Share
    maskcut: MaskCutParams
    crop_px: Count
    thresholds: Annotated[list[Cosine], Field(min_length=1)]
    min_patches: Count
    inside: Share
    max_iou: Share
    nms_window: CountOrZero
    divider: str | None
    encode: bool


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, is {value}")
    return value


class DeepSpectralParams(Section):
    ncr: Annotated[Share, Field(gt=0)]
    bins: Annotated[Count, Field(ge=2)]
    dcr: CountOrZero
    affinity: Literal["boc", "braycurtis", "correlation", "cosine", "chebyshev", "l2", "dot", "l1", "mahalanobis"]
    background: Literal["zero", "drop"]
    eigenvectors: Count
    instances: Count | Literal["eigengap", "labels"]
    max_instances: Annotated[Count, Field(ge=2)]
    median: Annotated[Count, AfterValidator(_odd)]
    clean: Literal["paper", "released"]
    solver: Solver


class ProMergeParams(Section):
    stride: Count
    tau_b: Cosine
    split: bool
    phi: Count
    tau_ioa_bg: Share
    tau_f_bg: Cosine
    merge: Literal["paper", "released"]
    tau_ioa_merge: Share
    tau_f_merge: Cosine
    tau_ioa_alone: Share
    crf: CRFParams | None


class MultiCutParams(Section):
    alpha: Annotated[Real, Field(gt=0, lt=1)]
    epsilon: Annotated[Real, Field(gt=0, lt=0.5)]
    reach: list[Annotated[Count, Field(ge=2)]]
    keep: Annotated[Share, Field(gt=0)]
    phi: Count

    @model_validator(mode="after")
    def _some_pairs_attract_and_some_repel(self) -> "MultiCutParams":
        if not self.epsilon < self.alpha < 1 - self.epsilon:
            raise ValueError(f"alpha {self.alpha} must lie between epsilon and 1 - epsilon, epsilon is {self.epsilon}")
        return self


class ACSegParams(Section):
    weights: Annotated[str, Field(min_length=1)]
    phi: Count


class PoolParams(Section):
    oap: OAPParams
    tokencut: TokenCutParams
    maskcut: MaskCutParams
    divide_conquer: DivideConquerParams
    deep_spectral: DeepSpectralParams
    promerge: ProMergeParams
    multicut: MultiCutParams
    acseg: ACSegParams

    def with_settings(self, other: Mapping[str, Mapping[str, Any]]) -> "PoolParams":
        """Other settings of some generators, key by key; the rest as it is.

        Errors: pydantic's `ValidationError` where there is no such generator or key, or a value is out of range.
        """
        return PoolParams.model_validate(_merged(self.model_dump(), other))


def _merged(settings: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(settings[key], value)
        for key, value in other.items()
        if isinstance(value, Mapping) and isinstance(settings.get(key), Mapping)
    }
    return {**settings, **other, **nested}
