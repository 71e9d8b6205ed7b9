"""Section of what makes masks better after they are found."""

from typing import Annotated

from pydantic import Field

from oapseg.params.section import Count, NotNegative, Positive, Real, Section


class CRFParams(Section):
    steps: Count
    gaussian_weight: NotNegative
    gaussian_sigma_px: Positive
    bilateral_weight: NotNegative
    bilateral_sigma_px: Positive
    bilateral_sigma_colour: Positive
    certainty: Annotated[Real, Field(gt=0.5, lt=1)]


class RefineParams(Section):
    min_area: Annotated[Real, Field(ge=0, lt=1)]
    max_iou: Annotated[Real, Field(gt=0, le=1)]
    fill_holes: bool
    crf: CRFParams
