"""A server that follows: the alias moves to another version, and the masks with it, with no request lost."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serve.serving import Running, running, until
from use.small import photo_bytes, small_model

from oapseg import storage
from oapseg.checkpoint.export import HASHES, WEIGHTS
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.register import register
from oapseg.registry.server import DEPRECATED_IN_MLFLOW, registry
from oapseg.serve.model import Source
from oapseg.serve.service import LOG

pytestmark = pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")
PHOTO = photo_bytes(48, 72, 0)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry of two versions, the first one champion."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for seed in (1, 2):
        folder = small_model(tmp_path / f"model-{seed}", seed)
        tags = {SEAL_TAG: storage.sha256(folder / HASHES)}
        register("oapseg", uri, artifacts={"model": folder}, content=str(seed), card="# card", metrics={}, tags=tags)
    champion(uri, 1)
    return uri


def champion(uri: str, version: int) -> None:
    with registry(uri) as client:
        client.set_registered_model_alias("oapseg", "champion", str(version))


@pytest.fixture
def server(database: str) -> Iterator[Running]:
    del database
    with running("models:/oapseg@champion", follow_s=0.05) as server:
        yield server


def test_the_masks_are_another_version_s_once_the_alias_has_moved_and_no_request_is_lost(
    server: Running, database: str, tmp_path: Path
) -> None:
    before = server.masks(PHOTO).said
    assert before["model"]["version"] == "1"
    asked = []
    with ThreadPoolExecutor(2) as people:
        champion(database, 2)
        while server.ask("GET", "/v1/model").said["version"] == "1":
            asked.append(people.submit(server.masks, PHOTO))
            asked[-1].result()
    after = server.masks(PHOTO).said
    assert {each.result().status for each in asked} == {200}
    assert after["model"] == {"name": "oapseg", "version": "2", "sha256": storage.sha256(tmp_path / "model-2" / HASHES)}
    assert after["masks"] != before["masks"]
    assert server.metric("oapseg_serve_model_swaps_total") == 1
    assert [
        sample.labels["version"] for family in server.service.metrics.model.collect() for sample in family.samples
    ] == ["2"]


def test_a_version_whose_files_were_changed_is_not_served_and_the_one_before_is(
    server: Running, database: str, tmp_path: Path
) -> None:
    with registry(database) as client:
        source = client.get_model_version("oapseg", "2").source
    weights = Path(source.removeprefix("file://")) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    champion(database, 2)
    until(lambda: server.metric("oapseg_serve_follow_errors_total") > 1)
    assert server.masks(PHOTO).said["model"]["version"] == "1"
    assert tmp_path.exists()


def test_a_folder_is_followed_by_its_hashes(tmp_path: Path) -> None:
    folder, other = small_model(tmp_path / "model", 1), small_model(tmp_path / "other", 2)
    with running(folder, follow_s=0.05) as server:
        before = server.masks(PHOTO).said["model"]["sha256"]
        shutil.rmtree(folder)
        until(lambda: server.metric("oapseg_serve_follow_errors_total") > 0)
        assert server.masks(PHOTO).said["model"]["sha256"] == before
        other.rename(folder)
        until(lambda: server.masks(PHOTO).said["model"]["sha256"] == storage.sha256(folder / HASHES) != before)


class Full(Source):
    """A place of a model that no look can load from."""

    def present(self) -> str:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_an_error_that_nobody_expects_is_counted_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = small_model(tmp_path / "model", 1), small_model(tmp_path / "other", 2)
    with running(folder, follow_s=0.05) as server:
        LOG.addHandler(caplog.handler)
        source = server.service.source
        server.service.source = Full(source.location, source.params)
        until(lambda: server.metric("oapseg_serve_follow_errors_total") > 2)
        assert server.ask("GET", "/readyz").status == 200
        shutil.rmtree(folder)
        other.rename(folder)
        server.service.source = source
        until(lambda: server.masks(PHOTO).said["model"]["sha256"] == storage.sha256(folder / HASHES))
        LOG.removeHandler(caplog.handler)
    told = [line for line in caplog.messages if "RuntimeError" in line]
    assert told == [
        f"serve: {folder}: still the model from before (RuntimeError: CUDA out of memory. Tried to allocate 2 GiB)"
    ]
