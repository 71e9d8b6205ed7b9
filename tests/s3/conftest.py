"""A real S3 server for the tests of this folder, started once; they are skipped where it cannot be had."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import ceph
import pytest
from proxy import Proxy, proxy

from oapseg.storage import connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "s3":
            item.add_marker("s3")


@pytest.fixture(scope="session")
def server() -> Iterator[ceph.Server]:
    """Ceph's gateway. Where its programs are missing, `OAPSEG_TEST_INSTALL=1` lets the tests install them."""
    if ceph.missing() and os.environ.get("OAPSEG_TEST_INSTALL") == "1":
        try:
            ceph.install()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no S3 server: Ceph cannot be installed ({error})")
    if ceph.missing():
        pytest.skip(f"no S3 server: install {' '.join(ceph.PACKAGES)}, or set OAPSEG_TEST_INSTALL=1")
    with ceph.server() as running:
        yield running


@pytest.fixture
def bucket(server: ceph.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, and the environment in which it is found."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "OAPSEG_S3_PATIENCE_S"):
        monkeypatch.delenv(name, raising=False)
    nothing = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(tmp_path / "not-there"))
    for name, value in (server.environment | nothing).items():
        monkeypatch.setenv(name, value)
    connection.forget()
    yield ceph.make_bucket(server, f"test-{uuid.uuid4().hex[:12]}")
    connection.forget()


@pytest.fixture
def network(server: ceph.Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:  # noqa: ARG001  # after it
    """The way to the server, which breaks when told to."""
    with proxy(server.endpoint) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        connection.forget()
        yield between
