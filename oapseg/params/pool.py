"""Sections of the generators of pseudo-masks, one below `pool` for each."""

from typing import Annotated, Literal

from pydantic import Field

from oapseg.params.section import Count, Positive, Real, Section, Share


class OAPParams(Section):
    tau: Annotated[list[Annotated[Real, Field(ge=-1, le=1)]], Field(min_length=1)]
    sigma: Positive
    omega_f: Share
    phi: Count
    vote: Literal["sum", "mean"]
    rounds: Literal[1, "stable"]
    chunk: Count


class PoolParams(Section):
    oap: OAPParams
