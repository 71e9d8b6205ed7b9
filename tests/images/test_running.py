"""The built image as a cluster runs it: no root, nothing to write to but /tmp and the workspace, no capability."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confined import CONFINED, engine, podman

IMAGE = "localhost/oapseg:cpu"
pytestmark = pytest.mark.containers


@pytest.fixture(scope="module", autouse=True)
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with engine(tmp_path_factory.mktemp("podman"), IMAGE, "make image"):
        yield


def run(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", *CONFINED, *options, IMAGE, *command)


def test_it_runs_as_the_user_that_the_cluster_expects() -> None:
    assert run("id", "-u").stdout.strip() == "10001"


def test_it_runs_under_an_init_that_passes_signals_on() -> None:
    assert "tini" in run("cat", "/proc/1/cmdline").stdout
    sleeping = ("python", "-c", "import time; time.sleep(600)")
    started = podman("run", "--rm", *CONFINED, "--detach", IMAGE, *sleeping).stdout.strip()
    time.sleep(2)  # a python that is up
    before = time.monotonic()
    assert podman("stop", "--time=60", started).returncode == 0
    assert time.monotonic() - before < 50  # a first process without handlers would have waited for the kill


def test_its_own_files_cannot_be_written() -> None:
    for place in ("/", "/app", "/venv", "/usr/local"):
        assert run("touch", f"{place}/x").returncode != 0


def test_it_has_no_capability() -> None:
    sets = [line.split() for line in run("grep", "^Cap", "/proc/self/status").stdout.splitlines()]
    assert len(sets) == 5
    assert all(int(value, 16) == 0 for _, value in sets)


def test_it_has_neither_git_nor_pip_nor_the_pipeline_s_compiler() -> None:
    assert run("sh", "-c", "command -v git pip gcc").stdout == ""
    assert run("python", "-c", "import kfp").returncode != 0
    assert run("python", "-c", "import pytest").returncode != 0


def test_its_steps_run_with_a_workspace_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    workspace = (f"--volume={tmp_path}:/workspace", "--workdir=/workspace")
    params = json.loads(
        run("python", "-c", "import json, yaml; print(json.dumps(yaml.safe_load(open('/app/params.yaml'))))").stdout
    )
    params["sample"] = {"train": 4, "val": 2, "size_px": 96}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    drawn = run("python", "-m", "components", "sample", "--out", "data/sample", options=workspace)
    assert drawn.returncode == 0, drawn.stderr
    arguments = ("shard", "val", "--root", "data/sample", "--out", "work/shards/val")
    packed = run("python", "-m", "components", *arguments, options=workspace)
    assert packed.returncode == 0, packed.stderr
    manifest = json.loads((tmp_path / "work/shards/val/manifest.json").read_text())
    assert sum(shard["samples"] for shard in manifest["shards"]) == 2


def test_it_knows_the_commit_that_it_was_built_from() -> None:
    label = "org.opencontainers.image.revision"
    revision = podman("image", "inspect", "--format", f'{{{{index .Labels "{label}"}}}}', IMAGE).stdout.strip()
    assert len(revision.removesuffix("-dirty")) == 40
    assert run("printenv", "OAPSEG_GIT_COMMIT").stdout.strip() == revision


def test_it_lists_what_it_holds() -> None:
    components = json.loads(run("cat", "/venv/sbom.cdx.json").stdout)["components"]
    names = {each["purl"].split("@")[0] for each in components}
    assert {"pkg:pypi/torch", "pkg:pypi/mlflow", "pkg:deb/debian/tini"} <= names
    assert not names & {"pkg:pypi/triton", "pkg:pypi/pip"}
