"""The model that is served: which version it is, and whether its alias has moved on to another."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg import storage
from oapseg.checkpoint.export import HASHES
from oapseg.checkpoint.model import Model
from oapseg.evaluate.predict import choose_device
from oapseg.model.predicted import Predicted
from oapseg.params import Params, Precision
from oapseg.registry import server
from oapseg.registry.load import URI
from oapseg.serve.masks import Named
from oapseg.use.resolved import load, resolve

WARM_PX = 64  # side of the photo that a model sees before it is served


@dataclass(frozen=True)
class Served:
    """A model at work; `present` is its source's word for it."""

    present: str
    model: Model
    named: Named
    precision: Precision
    since: str

    def predict(self, photos: list[UInt8[Tensor, "_H _W 3"]]) -> list[Predicted]:
        """What is seen in each photo, masks of all levels."""
        device = self.model.segmenter.backbone.encoder.mean.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return list(self.model.predict(photos, batch=len(photos)))

    def pace_s(self) -> float:
        """Seconds that a photo takes, by a look at one; its size matters little, as views are of one size."""
        begin = time.perf_counter()
        self.predict([torch.zeros(WARM_PX, WARM_PX, 3, dtype=torch.uint8)])
        return time.perf_counter() - begin

    def said(self) -> dict[str, Any]:
        """What `/v1/model` tells."""
        return self.named.said() | {
            "since": self.since,
            "clusters": len(self.named.clusters),
            "named_clusters": {str(number): name for number, name in self.named.clusters.items() if name is not None},
            "max_masks": self.model.look.max_masks,
            "card": self.model.card,
        }


@dataclass(frozen=True)
class Source:
    """Where a model is looked for, again and again: `models:/NAME@ALIAS`, a version, a folder or an `s3://` URL."""

    location: str
    params: Params

    def present(self) -> str:
        """What tells the model that is there now from any other: its version, or the hash of its files.

        It fetches no model, so that asking often costs little.

        Errors: `ValueError` or `OSError` where there is none.
        """
        parts = URI.fullmatch(self.location)
        if parts is None:
            return storage.sha256(storage.join(self.location, HASHES))
        with server.registry(server.tracking_uri(self.params)) as client:
            return str(server.get_version(client, parts["name"], parts["alias"] or parts["version"]).version)

    def load(self) -> Served:
        """The model that is there now, having seen a photo already, so that the first request does not wait longer."""
        found = resolve(self.location, self.params)
        settings = self.params.serve
        model = load(found, self.params, choose_device(settings.device, "serve").type)
        parts = URI.fullmatch(self.location)
        name = parts["name"] if parts else self.params.registration.name
        version = None if found.version is None else str(found.version)
        served = Served(
            present=version or found.sha256,
            model=replace(model, look=replace(model.look, level=None)),
            named=Named(name, version, found.sha256, model.names),
            precision=settings.precision,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        served.pace_s()
        return served
