"""`oapseg.load`: a trained model from wherever it lies, every file checked by its hash before it is used."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oapseg import storage
from oapseg.checkpoint.export import CONFIG, HASHES, Files, model_hash, read_files
from oapseg.checkpoint.model import Model, model_of
from oapseg.params import default_params_path, load_params
from oapseg.registry import server

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEME = "models:/"
URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+|latest))")
SEAL_TAG = "files_sha256"  # hash of the registered `sha256.json`


def load(location: str | Path, *, device: str = "auto", tracking_uri: str | None = None) -> Model:
    """A trained model from a folder, an `s3://` URL, `models:/NAME@ALIAS`, `models:/NAME/3` or `models:/NAME/latest`.

    The registry is `tracking_uri`, or what `MLFLOW_TRACKING_URI` or the shipped `params.yaml` names.

    Errors: `ValueError` or `OSError` of one line: no such model, or a file that was changed, by its name and hash.
    """
    text = str(location)
    files = _registered(text, tracking_uri) if text.startswith(SCHEME) else read_files(text)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return model_of(files, chosen, text)


def _registered(uri: str, tracking_uri: str | None) -> Files:
    parts = URI.fullmatch(uri)
    if parts is None:
        raise ValueError(f"{uri}: must be models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest")
    where = tracking_uri or server.tracking_uri(load_params(default_params_path()))
    with server.registry(where) as client:
        version = server.get_version(client, parts["name"], parts["alias"] or parts["version"])
        return sealed_files(client, version)


def sealed_files(client: "MlflowClient", version: Any) -> Files:
    """The model's files of a registered version, each checked by its hash, and the hashes by what the registry says.

    Errors: `ValueError` naming the file that is missing or was changed.
    """
    with server.artifacts(client, version, "model") as place:
        files = read_files(place)
        check_seal(place, version.tags.get(SEAL_TAG), f"model: models:/{version.name}/{version.version}")
    return files


def sealed_hash(client: "MlflowClient", version: Any) -> str:
    """`model_hash` of a registered version, by the hashes that the registry knows; no weights are fetched.

    Errors: `ValueError` as `sealed_files`.
    """
    with server.artifacts(client, version, "model", HASHES, CONFIG) as place:
        found = model_hash(place)
        check_seal(place, version.tags.get(SEAL_TAG), f"model: models:/{version.name}/{version.version}")
    return found


def check_seal(folder: str | Path, registered: str | None, what: str) -> None:
    """That a folder's hashes are those that were registered, where the registry says which.

    Errors: `ValueError` where they are not.
    """
    found = hashlib.sha256(storage.read_bytes(storage.join(folder, HASHES))).hexdigest()
    if registered not in (None, found):
        raise ValueError(f"{what}: {HASHES} was changed (its sha256 is {found}, registered is {registered})")
