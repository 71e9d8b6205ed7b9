"""The way to MLflow: a SQLite file beside the work unless a server is named, and errors of one line."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from oapseg import storage
from oapseg.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRACKING_URI, JOURNAL = "MLFLOW_TRACKING_URI", "OAPSEG_JOURNAL"  # of the environment
DEPRECATED_IN_MLFLOW = "The ``noload`` loader strategy"  # MLflow 3.17 on SQLAlchemy 2.1; nothing a user can act on
EMBEDDED = "sqlite:"
NAME = re.compile(r"[A-Za-z0-9._-]+")  # of a registered model, as `register.name` has it


@dataclass(frozen=True)
class Place:
    """Where a model's versions are, and the journal of who promoted them."""

    name: str
    tracking_uri: str
    journal: str


def place_of(params: Params, name: str | None = None) -> Place:
    """What sections `register` and `promote` say; the environment stands in for what lies on this machine alone.

    Errors: `ValueError` where the name is none, or a server of many has a journal that only this machine sees.
    """
    uri, journal, model = tracking_uri(params), journal_of(params), name or params.registration.name
    if not NAME.fullmatch(model):
        raise ValueError(f"NAME: letters, digits and . _ - alone, is {model!r}")
    if journal is None:
        raise ValueError(
            f"promote.journal: {params.promote.journal} is a folder here, but the registry {uri} is others' too; "
            f"set an s3:// URL, or a shared folder's absolute path (or {JOURNAL})"
        )
    return Place(model, uri, journal)


def journal_of(params: Params) -> str | None:
    """Where the journal is; None where only this machine would see it, but the registry is others' too."""
    journal = params.promote.journal
    if not storage.is_url(journal):
        journal = os.environ.get(JOURNAL) or journal
    seen = tracking_uri(params).startswith(EMBEDDED) or storage.is_url(journal) or Path(journal).is_absolute()
    return journal if seen else None


def tracking_uri(params: Params) -> str:
    uri = params.registration.tracking_uri
    return os.environ.get(TRACKING_URI) or uri if uri.startswith(EMBEDDED) else uri


@contextlib.contextmanager
def registry(uri: str, *, make: bool = False) -> Iterator["MlflowClient"]:
    """MLflow's client, its telemetry off: users did not ask for it. `make` lays out an embedded one that is not there.

    Errors: `ValueError` where the registry is not there, cannot be reached or refuses.
    """
    if uri.startswith(EMBEDDED) and not make and not database(uri).exists():
        raise ValueError(f"register.tracking_uri: no registry at {uri}; run the step register first")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # over what we say ourselves
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # half a minute where no server answers, not minutes
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", DEPRECATED_IN_MLFLOW)
        try:
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
        except MlflowException as error:
            line = " ".join(str(error).split())
            raise ValueError(f"register.tracking_uri: {uri} refused ({line})") from None


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Of the processes that write to an embedded registry one at a time; a server looks after itself.

    Two that lay out the tables of one SQLite file at once spoil it. The lock of a process that is killed goes with it.
    """
    if not uri.startswith(EMBEDDED):
        yield
        return
    path = Path(f"{database(uri)}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def database(uri: str) -> Path:
    """The file of an embedded registry."""
    return Path(urlparse(uri).path.removeprefix("/")).resolve()


def get_version(client: "MlflowClient", name: str, version: int | str) -> Any:
    """MLflow's record of a version, by number, alias or `latest`.

    Errors: `ValueError` naming those that there are.
    """
    found = client.search_registered_models(f"name = '{name}'")
    versions = {int(each.version): each for each in client.search_model_versions(f"name = '{name}'")} if found else {}
    if not versions:
        raise ValueError(f"{name}: the registry has no version of such a model; run the step register first")
    aliases = {alias: int(number) for alias, number in found[0].aliases.items()}
    number = max(versions) if version == "latest" else aliases.get(str(version), version)
    if not str(number).isdecimal() or int(number) not in versions:
        known = ", ".join([*map(str, sorted(versions)), *(f"@{alias}" for alias in sorted(aliases))])
        raise ValueError(f"{name}: no version {version}; the registry has {known}")
    return versions[int(number)]


@contextlib.contextmanager
def artifacts(client: "MlflowClient", version: Any, part: str, *names: str) -> Iterator[str]:
    """Where a part of what was registered with a version can be read, a folder or URL; these files of it at least."""
    uri = f"{version.source.removesuffix('/model')}/{part}"
    scheme = urlparse(uri).scheme
    if scheme in ("", "file"):
        yield unquote(urlparse(uri).path)
    elif scheme == "s3":
        yield uri
    else:
        with tempfile.TemporaryDirectory() as folder:
            if not names:
                yield client.download_artifacts(version.run_id, part, folder)
                return
            some = Path(folder, "some")
            some.mkdir()
            for name in names:
                shutil.move(client.download_artifacts(version.run_id, f"{part}/{name}", folder), some / name)
            yield str(some)
