"""Online self-supervised universal image segmentation.

Photos without labels become shards; a teacher's patch features are pooled into pseudo-masks inside each training step
(Online Agglomerative Pooling); a student learns to predict them; the teacher is measured, registered and used.

Rooms, from the top: `serve`, `use`, `registry`, `report`, `evaluate` and `train`, `monitor`, `checkpoint`, `match`,
`model` and `pool`, `encode`, `refine`, `shards`, and at the bottom `masks`, `params`, `progress`, `storage`. Imports go
strictly downward.

Letters in shapes and einsums, everywhere:

    B images    H W pixels    h w patches (or mask cells)    N = h*w patches    C channels of a patch feature
    Q queries   D width of a query    S segments    K clusters    E edges    P sampled points    L layers
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oapseg.checkpoint.model import Model

__version__ = "0.1.0"


def load(location: str | Path, *, device: str = "auto", tracking_uri: str | None = None) -> "Model":
    """A trained model from a folder, an `s3://` URL, `models:/NAME@ALIAS` or `models:/NAME/3`: `model(images)` gives
    masks. Says more: `oapseg.registry.load.load`, which is imported only here."""
    from oapseg.registry.load import load as load_model

    return load_model(location, device=device, tracking_uri=tracking_uri)
