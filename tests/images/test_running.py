"""The built image as a cluster runs it: no root, nothing to write to but /tmp and the workspace, no capability."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

IMAGE = "localhost/oapseg:cpu"
CONFINED = (
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--tmpfs=/tmp:rw,mode=1777",
)
# Podman beside no systemd, as in a container of CI.
CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module", autouse=True)
def podman(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("podman") is None or shutil.which("runc") is None:
        pytest.skip("no podman with runc here")
    if subprocess.run(["podman", "image", "exists", IMAGE]).returncode:
        pytest.skip(f"no {IMAGE} here; `make image` builds it")
    file = tmp_path_factory.mktemp("podman") / "containers.conf"
    file.write_text(CONTAINERS_CONF)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(file))
        yield


def run(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", "run", *CONFINED, *options, IMAGE, *command], capture_output=True, text=True)


def test_it_runs_as_the_user_that_the_cluster_expects() -> None:
    assert run("id", "-u").stdout.strip() == "10001"


def test_it_runs_under_an_init_that_passes_signals_on() -> None:
    assert "tini" in run("cat", "/proc/1/cmdline").stdout
    started = subprocess.run(
        ["podman", "run", *CONFINED, "--detach", IMAGE, "python", "-c", "import time; time.sleep(600)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    time.sleep(2)  # a python that is up
    before = time.monotonic()
    subprocess.run(["podman", "stop", "--time=60", started], check=True, capture_output=True)
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
    command = ["podman", "image", "inspect", "--format", f'{{{{index .Labels "{label}"}}}}', IMAGE]
    revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert len(revision.removesuffix("-dirty")) == 40
    assert run("printenv", "OAPSEG_GIT_COMMIT").stdout.strip() == revision


def test_it_lists_what_it_holds() -> None:
    components = json.loads(run("cat", "/venv/sbom.cdx.json").stdout)["components"]
    names = {each["purl"].split("@")[0] for each in components}
    assert {"pkg:pypi/torch", "pkg:pypi/mlflow", "pkg:deb/debian/tini"} <= names
    assert not names & {"pkg:pypi/triton", "pkg:pypi/pip"}
