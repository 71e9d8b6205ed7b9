"""The compiled pipeline in containers of our own image, on real S3 and MLflow over HTTP, against `dvc repro`.

    python -m tests.e2e.run [--full] [--image IMAGE] [--no-build] [--keep FOLDER]

Starts Ceph's gateway, an MLflow server with its artifacts there, and podman's socket; builds the image; runs the
package through `kfp.local.DockerRunner`, as no root, on a read-only root, without capabilities; runs `dvc repro` on the
same parameters in a copy of this clone. Exits 1 unless metrics are equal to the last digit and the trained model to the
last bit, both registered versions name the same content and data, that of the containers names their image, and no log
holds the secret key. `--full` takes the parameters as they are; without it they suit minutes.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from typing import Any

from oapseg import storage
from pipelines.compiler import compile_package
from pipelines.stages import ROOT, read_pipeline
from tests.e2e.services import mlflow_server, podman_socket
from tests.s3 import ceph

SMALL = (
    "sample.train=24",
    "sample.val=8",
    "pretrain.steps=6",
    "pretrain.batch=2",
    "pretrain.warmup_steps=2",
    "pretrain.local_count=2",
    "finetune.steps=3",
    "finetune.warmup_steps=1",
    "evaluate.bootstrap=20",
    "report.photos=4",
)
BUCKET, RUN = "oapseg", "e2e"
COMPARED = (
    *("work/evaluate/headlines.json", "work/evaluate/metrics.json"),
    *("work/finetune/model/model.safetensors", "work/finetune/model/params.yaml", "work/finetune/model/sha256.json"),
)
BINARY = (".safetensors",)
PROGRAMS = ("podman", "buildah", "mmdebstrap", "runc")
# Sums of floating-point numbers are in the order of the threads, so both engines get as many.
THREADS = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="the parameters of params.yaml as they are")
    parser.add_argument("--image", default="localhost/oapseg:cpu", help="image of every step (default: %(default)s)")
    parser.add_argument("--no-build", action="store_true", help="take the image as it is")
    parser.add_argument("--keep", type=Path, help="new folder that keeps copy, artifacts and logs")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with it
    if lacking := [*ceph.missing(), *(name for name in PROGRAMS if shutil.which(name) is None)]:
        packages = " ".join([*ceph.PACKAGES, "podman", "buildah", "runc", "mmdebstrap"])
        print(f"e2e: {', '.join(lacking)}: not here; on Debian: apt-get install {packages}", file=sys.stderr)
        return 2
    if not args.no_build:
        with measured("image"):
            build(args.image)
    with _folder(args.keep) as folder:
        return run(folder, args.image, () if args.full else SMALL)


def run(folder: Path, image: str, overrides: tuple[str, ...]) -> int:
    """Both engines on one set of parameters; the exit code."""
    copy = clone(folder / "clone", overrides)
    with ceph.server() as s3, mlflow_server(folder, s3.environment, BUCKET) as registry:
        os.environ.update(s3.environment)
        with measured("kfp.local, in containers"):
            in_containers(folder, copy, image, s3.environment | {"MLFLOW_TRACKING_URI": registry})
        place = f"s3://{BUCKET}/runs/{RUN}"
        ours = {path: storage.read_bytes(f"{place}/{path}") for path in COMPARED}
        for path, content in ours.items():  # beside what the clone makes, for those who ask where they differ
            storage.write_bytes(folder / "containers" / path, content)
        tags = registered(registry, storage.read_json(f"{place}/work/register/version.json"))
    with measured("dvc repro"):
        command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            command, cwd=copy, check=True, env=os.environ | THREADS | {"PYTHONPATH": str(copy), "PATH": path}
        )
    theirs = {path: (copy / path).read_bytes() for path in COMPARED}
    version = storage.read_json(copy / "work/register/version.json")
    ours |= versions(tags)
    theirs |= versions(registered(f"sqlite:///{copy}/mlflow.db", version))
    for name, value in json.loads(ours[COMPARED[0]]).items():
        print(f"  {name} {value}")
    for path in ours:
        same = "equal" if ours[path] == theirs[path] else "NOT EQUAL"
        print(f"{path}: {same} (sha256 {hashlib.sha256(ours[path]).hexdigest()[:16]})")
        if same != "equal" and Path(path).suffix not in BINARY:
            print("".join(differing(ours[path].decode(), theirs[path].decode())))
    print(f"image: {tags.get('image')}, of {image}")
    leaks = [path.name for path in folder.glob("*.log") if ceph.SECRET_KEY in path.read_text()]
    print(f"secret key in a log: {', '.join(leaks) or 'no'}")
    return int(bool(leaks) or ours != theirs or tags.get("image") != image)


def differing(ours: str, theirs: str) -> list[str]:
    """The first lines of the containers' text that `dvc repro` did not write, and those it wrote in their place."""
    lines = (f"{text}\n".splitlines(keepends=True) for text in (ours, theirs))
    return list(islice(unified_diff(*lines, "containers", "dvc repro", n=0), 12))


def build(image: str) -> None:
    """The image from this clone, on a base of Debian's packages; quick where nothing has changed."""
    base = "localhost/oapseg-base"
    if subprocess.run(["podman", "image", "exists", base]).returncode:
        subprocess.run([ROOT / "images" / "base.sh"], check=True)
    command = [ROOT / "images" / "build.sh", image.rpartition(":")[2], "--quiet", "--isolation=chroot"]
    command += ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]  # where a proxy of one's own signs what pip fetches
    subprocess.run(command, check=True, env=os.environ | {"BASE": base})


def clone(copy: Path, overrides: tuple[str, ...]) -> Path:
    """A copy of what git tracks or would, with parameters overridden and nothing run yet."""
    from dvc.utils.hydra import apply_overrides

    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    if overrides:
        apply_overrides(copy / "params.yaml", list(overrides))
    return copy


def in_containers(folder: Path, copy: Path, image: str, environment: dict[str, str]) -> None:
    """Run the package of the copy's parameters; what the containers say goes to containers.log."""
    package = folder / "package.yaml"
    package.write_text(compile_package(read_pipeline(copy), image=image, local=True))
    given = {
        "arguments": {"s3_prefix": f"s3://{BUCKET}/runs"},
        "environment": environment | THREADS | {"OAPSEG_RUN": RUN},
    }
    log = folder / "containers.log"
    with podman_socket(folder) as socket, open(log, "w") as file:
        command = [sys.executable, Path(__file__).with_name("package.py"), package, folder / "artifacts"]
        ran = subprocess.run(
            command,
            input=json.dumps(given),
            text=True,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"DOCKER_HOST": socket},
        )
    if ran.returncode:
        sys.exit(f"e2e: the package failed\n{log.read_text()[-4000:]}")


def versions(tags: dict[str, str]) -> dict[str, bytes]:
    """Of what was registered and of each set of shards behind it."""
    said = {"content": tags["content_sha256"]}
    said |= {name: version for name, version in sorted(tags.items()) if name.startswith("data.")}
    return {name: version.encode() for name, version in said.items()}


def registered(registry: str, version: dict[str, Any]) -> dict[str, str]:
    """The registry has the version, and its model comes back out of it; the version's tags."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    found = MlflowClient(registry, registry).get_model_version(version["name"], str(version["version"]))
    (model,) = Path(download_artifacts(artifact_uri=found.source, tracking_uri=registry)).rglob("model.safetensors")
    print(f"registry: {found.name} version {found.version}, its model of {model.stat().st_size:,} bytes came back")
    return dict(found.tags)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print how long a block took."""
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="oapseg-e2e-") as name:
        Path(name).chmod(0o755)  # the containers' user looks for its artifacts below
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
