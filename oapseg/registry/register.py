"""A model's folder to a version in MLflow, once for one content whatever happens on the way."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from oapseg.registry.server import EMBEDDED, alone, database, registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONTENT_TAG = "content_sha256"
PARAMS_A_CALL = 100  # MLflow's limit for one call
PARAM_CHARACTERS = 6000  # MLflow's limit for one value
DESCRIPTION_CHARACTERS = 5000  # the column of MLflow's database
CUT = "\n\n_The whole card is `card.md` of the model._"


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
    artifacts: Mapping[str, Path],
    content: str,
    card: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> Version:
    """Register the folder `artifacts["model"]`, with the other artifacts beside it, unless its content is known.

    `tags` stand on the version, the parameters (from the model's own `params.yaml`) and metrics on its run. The version
    comes last, so what there is of one is whole. A registration that was killed left a run with the content's tag. In
    an embedded registry, where nobody else can be at it, the next one of the same content goes on with it; on a server
    it ends that run and begins anew. Where two at once made two versions of one content, the first stays.

    Errors: `ValueError` where the registry cannot be reached or refuses.
    """
    with alone(tracking_uri), registry(tracking_uri, make=True) as client:
        version = _version_of(client, name, content)
        new = version is None
        if version is None:
            run_id, source = _log_run(client, name, tracking_uri, artifacts, metrics, content)
            _ensure_model(client, name)
            client.create_model_version(
                name, source, run_id, tags={**tags, CONTENT_TAG: content}, description=description_of(card)
            )
            version = _version_of(client, name, content)
    if version is None:
        raise ValueError(f"register.tracking_uri: {tracking_uri} lost the version of {name} that was just made")
    return Version(name, version, f"models:/{name}/{version}", content, new)


def description_of(card: str) -> str:
    """The card, or as many of its lines as the registry takes and where the others are."""
    if len(card) <= DESCRIPTION_CHARACTERS:
        return card
    return card[: DESCRIPTION_CHARACTERS - len(CUT)].rpartition("\n")[0] + CUT


def flat_params(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names with text values; lists and empty values as JSON."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, dict) and value:
            flat |= flat_params(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _version_of(client: "MlflowClient", name: str, content: str) -> int | None:
    """The first version with this content; later ones, of a race, go, unless someone has given them an alias."""
    found = client.search_model_versions(f"name = '{name}' and tags.{CONTENT_TAG} = '{content}'")
    first, *others = sorted(found, key=lambda version: int(version.version)) or [None]
    if others:
        held = set(client.get_registered_model(name).aliases.values())
        for other in others:
            if other.version not in held:
                _unless(("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"), _delete, client, other)
    return None if first is None else int(first.version)


def _delete(client: "MlflowClient", version: Any) -> None:
    client.delete_model_version(version.name, version.version)


def _unless(codes: tuple[str, ...], do: Callable[..., object], *arguments: Any) -> None:
    """Do what another process may have done already, as these codes of the registry's say."""
    from mlflow.exceptions import MlflowException

    try:
        do(*arguments)
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def _log_run(
    client: "MlflowClient",
    name: str,
    tracking_uri: str,
    artifacts: Mapping[str, Path],
    metrics: Mapping[str, float],
    content: str,
) -> tuple[str, str]:
    """A finished run with artifacts, parameters and scores; its id, and where its model lies."""
    from mlflow.entities import Metric, Param

    run = _run(client, _experiment(client, name, tracking_uri), content, mine=tracking_uri.startswith(EMBEDDED))
    run_id = run.info.run_id
    try:
        params = flat_params(yaml.safe_load((artifacts["model"] / "params.yaml").read_text()))
        logged = [Param(key, value[:PARAM_CHARACTERS]) for key, value in params.items()]
        for start in range(0, len(logged), PARAMS_A_CALL):
            client.log_batch(run_id, params=logged[start : start + PARAMS_A_CALL])
        began = run.info.start_time
        client.log_batch(run_id, metrics=[Metric(key, value, began, 0) for key, value in metrics.items()])
        for place, path in artifacts.items():
            log = client.log_artifacts if path.is_dir() else client.log_artifact
            log(run_id, str(path), place)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id, f"{run.info.artifact_uri}/model"


def _run(client: "MlflowClient", experiment: str, content: str, *, mine: bool) -> Any:
    """A new run of this content, or, where it is certainly `mine`, the one that a killed registration left."""
    left = client.search_runs([experiment], f"tags.{CONTENT_TAG} = '{content}'", order_by=["attributes.start_time"])
    if left and mine:
        return left[0]
    for run in left:
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")  # if it lives, it says so itself when it ends
    return client.create_run(experiment, tags={CONTENT_TAG: content})


def _experiment(client: "MlflowClient", name: str, tracking_uri: str) -> str:
    """The experiment of that name; beside an embedded database its artifacts lie in `mlartifacts`."""
    place = (database(tracking_uri).parent / "mlartifacts").as_uri() if tracking_uri.startswith(EMBEDDED) else None
    if client.get_experiment_by_name(name) is None:
        _unless(("RESOURCE_ALREADY_EXISTS",), client.create_experiment, name, place)
    return str(client.get_experiment_by_name(name).experiment_id)


def _ensure_model(client: "MlflowClient", name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        _unless(("RESOURCE_ALREADY_EXISTS",), client.create_registered_model, name)
