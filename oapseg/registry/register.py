"""A model's folder to a version in MLflow."""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import yaml

from oapseg.evaluate.scores import Score

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONTENT_TAG = "content_sha256"
PARAMS_A_CALL = 100  # MLflow's limit for one call
PARAM_CHARACTERS = 6000  # MLflow's limit for one value
DESCRIPTION_CHARACTERS = 5000  # the column of MLflow's database
DEPRECATED_IN_MLFLOW = "The ``noload`` loader strategy"  # MLflow 3.17 on SQLAlchemy 2.1; nothing a user can act on


@dataclass(frozen=True)
class Version:
    """A registered version. `uri` is how MLflow's tools name it; `new` is false where the content was there already."""

    name: str
    version: int
    uri: str
    content_sha256: str
    new: bool


def register(
    name: str,
    tracking_uri: str,
    *,
    artifacts: dict[str, Path],
    content: str,
    card: str,
    scores: dict[str, Score],
    tags: dict[str, str],
) -> Version:
    """Register the folder `artifacts["model"]`, with the other artifacts beside it, unless its content is known.

    `tags` stand on the version, the parameters (from the model's own `params.yaml`) and scores on its run.

    Errors: `ValueError` where the registry cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", DEPRECATED_IN_MLFLOW)
        try:
            client = _client(tracking_uri)
            version = _version_of(client, name, content)
            new = version is None
            if version is None:
                run_id, source = _log_run(client, name, tracking_uri, artifacts, scores)
                _ensure_model(client, name)
                version = _create_version(client, name, source, run_id, tags | {CONTENT_TAG: content}, card)
        except MlflowException as error:
            line = " ".join(str(error).split())
            raise ValueError(f"register.tracking_uri: {tracking_uri} refused ({line})") from None
    return Version(name, version, f"models:/{name}/{version}", content, new)


def flat_params(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names with text values; lists and empty values as JSON."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, dict) and value:
            flat |= flat_params(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _client(tracking_uri: str) -> "MlflowClient":
    """MLflow's client, its telemetry off: users did not ask for it."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # half a minute where no server answers, not minutes
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _version_of(client: "MlflowClient", name: str, content: str) -> int | None:
    """The first version with this content."""
    found = client.search_model_versions(f"name = '{name}' and tags.{CONTENT_TAG} = '{content}'")
    return min((int(version.version) for version in found), default=None)


def _log_run(
    client: "MlflowClient", name: str, tracking_uri: str, artifacts: dict[str, Path], scores: dict[str, Score]
) -> tuple[str, str]:
    """A finished run with artifacts, parameters and scores; its id, and where its model lies."""
    from mlflow.entities import Metric, Param

    run = client.create_run(_experiment(client, name, tracking_uri))
    run_id = run.info.run_id
    try:
        params = flat_params(yaml.safe_load((artifacts["model"] / "params.yaml").read_text()))
        logged = [Param(key, value[:PARAM_CHARACTERS]) for key, value in params.items()]
        for start in range(0, len(logged), PARAMS_A_CALL):
            client.log_batch(run_id, params=logged[start : start + PARAMS_A_CALL])
        ended = run.info.start_time
        client.log_batch(run_id, metrics=[Metric(key, score.value, ended, 0) for key, score in scores.items()])
        for place, path in artifacts.items():
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            log(run_id, str(path), place)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id, f"{run.info.artifact_uri}/model"


def _experiment(client: "MlflowClient", name: str, tracking_uri: str) -> str:
    """The experiment of that name; beside an embedded database its artifacts lie in `mlartifacts`."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    return str(client.create_experiment(name, artifact_location=_embedded_artifacts(tracking_uri)))


def _embedded_artifacts(tracking_uri: str) -> str | None:
    """Where artifacts go with a SQLite file; a server decides for itself."""
    parsed = urlparse(tracking_uri)
    if parsed.scheme != "sqlite":
        return None
    return (Path(parsed.path.removeprefix("/")).resolve().parent / "mlartifacts").as_uri()


def _ensure_model(client: "MlflowClient", name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)


def _create_version(
    client: "MlflowClient", name: str, source: str, run_id: str, tags: dict[str, str], card: str
) -> int:
    created = client.create_model_version(name, source, run_id, tags=tags, description=card[:DESCRIPTION_CHARACTERS])
    return int(created.version)
