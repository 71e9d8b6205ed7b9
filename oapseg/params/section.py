"""What a section of `params.yaml` is, and the types of its values."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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
