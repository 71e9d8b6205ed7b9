"""`params.yaml` into strict, frozen models: a wrong key or value is one clear line before anything runs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator


def _whole(value: Any) -> Any:
    """A whole float is an int: JSON parameters on Kubeflow travel through a Struct, which turns 3 into 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _real(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_real)]
Count = Annotated[Whole, Field(ge=1)]
CountOrZero = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]  # what numpy takes
Share = Annotated[Real, Field(ge=0, le=1)]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["bf16", "fp32"]


class Section(BaseModel):
    """A section of `params.yaml`; a mapping too, so that `OAP(**params.pool.oap)` is the whole construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def keys(self) -> Iterator[str]:
        return iter(type(self).model_fields)

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)


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


class BenchmarkParams(Section):
    """A public data set to score on: its sources, what is scored on it, and how its classes are made."""

    root: str
    sources: Annotated[list[Source], Field(min_length=1)]
    tasks: Annotated[list[Literal["instance", "semantic", "panoptic", "saliency"]], Field(min_length=1)]
    classes: Literal["coco_stuff27", "coco_u2seg", "cityscapes27", "cityscapes19"] | None = None
    measures: list[Literal["mask", "box"]] = []
    max_dets: Count = 100
    short_side_px: Count | None = None
    crop_px: Count | None = None

    @model_validator(mode="after")
    def _measures_go_with_instances(self) -> "BenchmarkParams":
        if ("instance" in self.tasks) != bool(self.measures):
            tasks, measures = ", ".join(self.tasks), ", ".join(self.measures) or "none"
            raise ValueError(f"measures go with task instance and no other; tasks are {tasks}, measures {measures}")
        return self


class ShardsParams(Section):
    samples_per_shard: Count
    max_broken: Share
    max_pixels: Count
    workers: Count
    sets: dict[str, SetParams]


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


class OAPParams(Section):
    tau: Annotated[list[Annotated[Real, Field(ge=-1, le=1)]], Field(min_length=1)]
    sigma: Positive
    omega_f: Share
    phi: Count
    vote: Literal["sum", "mean"]
    rounds: Literal[1, "stable"]


class PoolParams(Section):
    oap: OAPParams


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
    mix: Annotated[dict[str, Positive], Field(min_length=1)]

    def over(self, pretrain: PretrainParams) -> PretrainParams:
        """The parameters of the loop: those of pretraining, with what fine-tuning changes."""
        return pretrain.model_copy(update={"steps": self.steps, "lr": self.lr, "warmup_steps": self.warmup_steps})


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


class Params(Section):
    seed: Seed
    sample: SampleParams
    shards: ShardsParams
    encode: EncodeParams
    encoder: EncoderParams
    pool: PoolParams
    model: ModelParams
    pretrain: PretrainParams
    finetune: FinetuneParams
    predict: PredictParams
    evaluate: EvaluateParams
    benchmarks: dict[str, BenchmarkParams]
    report: ReportParams
    registration: Annotated[RegisterParams, Field(alias="register")]  # `register` is a method of every ABCMeta class


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
    packaged = Path(__file__).with_name("params.yaml")
    return packaged if packaged.exists() else Path(__file__).parents[1] / "params.yaml"


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
    try:
        return Params.model_validate_json(json.dumps(raw, default=str))  # YAML has dates, JSON has not
    except ValidationError as error:
        raise ValueError(f"{origin}: {'; '.join(_line(detail) for detail in error.errors())}") from None
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
