"""MLflow's own pages of a promoted version, in a real browser: what people see who know nothing of us."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry.versions import ALIAS, GATE, NAME, place_in, registered
from s3.ceph import free_port
from serve.browser import browser
from serve.serving import until

from oapseg.registry.promote import promote
from oapseg.registry.server import DEPRECATED_IN_MLFLOW

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")]

QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
TEXT = "document.body.innerText"


@contextmanager
def mlflow_ui(database: Path) -> Iterator[str]:
    """MLflow's pages over an embedded registry; their address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "ui", "--workers=1", "--host=127.0.0.1", f"--port={port}"]
    log = database.parent / "ui.log"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    with (
        open(log, "wb") as file,
        subprocess.Popen(
            [*command, f"--backend-store-uri=sqlite:///{database}"],
            cwd=database.parent,
            env=os.environ | QUIET,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            until(answers)
            yield address
        finally:
            process.terminate()


def test_the_registrys_own_page_shows_the_version_its_card_and_its_alias(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    first, second = (registered(place, tmp_path / str(percent), percent) for percent in (20.0, 30.0))
    promote(place, second, ALIAS, GATE)
    shown = {first: "true", second: rf"/@\s*{ALIAS}\b/.test({TEXT})"}
    said = {}
    with browser(tmp_path / "chromium") as page, mlflow_ui(tmp_path / "mlflow.db") as address:
        for version in (first, second):
            page.open(f"{address}/#/models/{NAME}/versions/{version}")
            whole = f"{TEXT}.includes('Version {version}') && {TEXT}.includes('content_sha256')"
            page.until(f"{whole} && {shown[version]}")
            said[version] = " ".join(page.run(TEXT).split())  # its spaces are of many kinds
        page.screenshot(tmp_path / "version.png")
    for version in (first, second):
        assert f"{NAME} Version {version}" in said[version]
        card = said[version].partition("Description")[2].partition("Tags Name Value")[0]
        for line in ("What it is.", "val, 60 photos of val: COCO.", "Code c0ffee.", "Apache-2.0."):
            assert line in card
    assert f"Aliases : @ {ALIAS} " in said[second]
    assert f"@ {ALIAS}" not in said[first]
    assert "gate.champion passed" in said[second]
    assert (tmp_path / "version.png").stat().st_size > 10_000
