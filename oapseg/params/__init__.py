"""`params.yaml` into strict, frozen models: a wrong key or value is one clear line before anything runs.

A file a group of sections; this one puts them together, reads and checks.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from oapseg.params.data import BenchmarkParams, SampleParams, SetParams, ShardsParams, Source
from oapseg.params.encode import EncodeParams, EncoderParams
from oapseg.params.monitor import MonitorParams
from oapseg.params.pool import OAPParams, PoolParams
from oapseg.params.refine import CRFParams, RefineParams
from oapseg.params.section import Count, Device, Precision, Section, Seed
from oapseg.params.train import ACGParams, FinetuneParams, ModelParams, PretrainParams
from oapseg.params.use import (
    CompareParams,
    EvaluateParams,
    ExportParams,
    GateParams,
    LimitParams,
    PredictParams,
    PromoteParams,
    RangeParams,
    RegisterParams,
    ReportParams,
    ServeParams,
    TextParams,
    TuneParams,
)

__all__ = [
    "ACGParams",
    "BenchmarkParams",
    "CRFParams",
    "CompareParams",
    "Count",
    "Device",
    "EncodeParams",
    "EncoderParams",
    "EvaluateParams",
    "ExportParams",
    "FinetuneParams",
    "GateParams",
    "LimitParams",
    "ModelParams",
    "MonitorParams",
    "OAPParams",
    "Params",
    "PoolParams",
    "Precision",
    "PredictParams",
    "PretrainParams",
    "PromoteParams",
    "RangeParams",
    "RefineParams",
    "RegisterParams",
    "ReportParams",
    "SampleParams",
    "Section",
    "ServeParams",
    "SetParams",
    "ShardsParams",
    "Source",
    "TextParams",
    "TuneParams",
    "default_params_path",
    "load_params",
    "parse_params",
    "recipe",
]


class Params(Section):
    seed: Seed
    sample: SampleParams
    shards: ShardsParams
    encode: EncodeParams
    encoder: EncoderParams
    pool: PoolParams
    refine: RefineParams
    model: ModelParams
    pretrain: PretrainParams
    finetune: FinetuneParams
    acg: ACGParams
    monitor: MonitorParams
    predict: PredictParams
    evaluate: EvaluateParams
    benchmarks: dict[str, BenchmarkParams]
    report: ReportParams
    registration: Annotated[RegisterParams, Field(alias="register")]  # `register` is a method of every ABCMeta class
    promote: PromoteParams
    serve: ServeParams
    export: ExportParams
    compare: CompareParams
    tune: TuneParams


def recipe(params: Params, *keys: str, without: Sequence[str] = ()) -> str:
    """The seed and the sections at these dotted keys, less some of their keys, as YAML: what made a model."""
    whole = params.model_dump(mode="json", by_alias=True)
    chosen: dict[str, Any] = {"seed": params.seed}
    for key in keys:
        *parents, last = key.split(".")
        source, target = whole, chosen
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = {name: value for name, value in source[last].items() if name not in without}
    return yaml.safe_dump(chosen, sort_keys=False)


def default_params_path() -> Path:
    """The `params.yaml` of this clone, or the copy that the wheel carries."""
    packaged = Path(__file__).parents[1] / "params.yaml"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "params.yaml"


def load_params(path: str | Path) -> Params:
    """Read and check a `params.yaml`.

    Errors: `ValueError` of one line that names the file, each wrong key, its value and what is allowed.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        raw = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: must be a mapping of sections, is {type(raw).__name__}")
    return parse_params(raw, str(path))


def parse_params(raw: dict[Any, Any], origin: str = "params") -> Params:
    """Check a mapping of sections; `origin` opens the line of an error."""
    within = ""
    try:
        params = Params.model_validate_json(json.dumps(raw, default=str))  # YAML has dates, JSON has not
        within = "compare.published."
        params.pool.with_settings(params.compare.published)
        within = "compare.published_acg."
        params.acg.with_settings(params.compare.published_acg)
        return params
    except ValidationError as error:
        raise ValueError(f"{origin}: {'; '.join(within + _line(detail) for detail in error.errors())}") from None
    except (TypeError, ValueError) as error:  # keys that are no text, or a mapping that holds itself
        raise ValueError(f"{origin}: {error}") from None


def _line(detail: Any) -> str:
    """One wrong key: where, what is allowed, what was found."""
    key = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if detail["type"] in ("missing", "value_error"):
        return f"{key}: {message}"
    return f"{key}: {message}, is {detail['input']!r}"
