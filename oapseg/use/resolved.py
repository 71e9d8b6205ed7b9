"""Which model a name stands for at this moment: an alias is followed once, and what it led to is what is used."""

from dataclasses import asdict, dataclass
from typing import Any

import oapseg
from oapseg import storage
from oapseg.checkpoint.export import HASHES
from oapseg.checkpoint.model import Model
from oapseg.params import Params
from oapseg.registry import server
from oapseg.registry.load import SCHEME, URI

CHAMPION = "models:/oapseg@champion"  # where people name no model


@dataclass(frozen=True)
class Resolved:
    """A model by the name that was given, by what it stood for, and by what it holds."""

    asked: str
    location: str  # a version of a registry where `asked` is an alias or the latest one
    version: int | None  # of a registry
    sha256: str  # of the model's `sha256.json`, which is over all of its files

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def resolve(location: str, params: Params) -> Resolved:
    """What a folder, an `s3://` URL or `models:/NAME@ALIAS`, `/VERSION`, `/latest` stands for now.

    Errors: `ValueError` or `OSError` of one line where there is no such model, registry or alias.
    """
    parts = URI.fullmatch(location)
    if parts is None and location.startswith(SCHEME):
        raise ValueError(f"{location}: must be models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest")
    if parts is None:
        return Resolved(location, location, None, _sealed(location))
    with server.registry(server.tracking_uri(params)) as client:
        version = server.get_version(client, parts["name"], parts["alias"] or parts["version"])
        with server.artifacts(client, version, "model") as place:
            sealed = _sealed(place)
    number = int(version.version)
    return Resolved(location, f"{SCHEME}{parts['name']}/{number}", number, sealed)


def load(resolved: Resolved, params: Params, device: str) -> Model:
    """The model that was resolved, on a device: auto, cpu or cuda."""
    return oapseg.load(resolved.location, device=device, tracking_uri=server.tracking_uri(params))


def _sealed(place: str) -> str:
    hashes = storage.join(place, HASHES)
    try:
        return storage.sha256(hashes)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"model: {place}: no {HASHES}, so it is no model") from None
