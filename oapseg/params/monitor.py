"""Section of what a training says of itself."""

from typing import Annotated, Literal

from pydantic import Field

from oapseg.params.section import CountOrZero, Section, Whole


class MonitorParams(Section):
    every: CountOrZero
    photos: Annotated[Whole, Field(ge=0, le=4096)]
    action: Literal["ignore", "warn", "stop", "rollback"]
    rollbacks: Annotated[Whole, Field(ge=0, le=100)]
