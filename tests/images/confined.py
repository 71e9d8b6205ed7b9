"""Our images as a cluster runs them: no root, nothing to write to but /tmp and what is mounted, no capability."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFINED = (
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


@contextmanager
def engine(folder: Path, image: str, built_by: str) -> Iterator[None]:
    """Podman, told how to run here, with an image of ours; tests skip where either is missing."""
    if shutil.which("podman") is None or shutil.which("runc") is None:
        pytest.skip("no podman with runc here")
    if subprocess.run(["podman", "image", "exists", image]).returncode:
        pytest.skip(f"no {image} here; `{built_by}` builds it")
    file = folder / "containers.conf"
    file.write_text(CONTAINERS_CONF)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(file))
        yield


def podman(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(["podman", *words], input=data, capture_output=True)
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())
