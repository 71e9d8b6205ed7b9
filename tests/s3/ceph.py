"""A real S3 server for as long as it is needed: Ceph's RADOS Gateway with one monitor and one store in memory.

    python tests/s3/ceph.py COMMAND ...      runs the command with the server's address and keys in its environment;
                                             the buckets `bench` and `oapseg` are there

Needs Debian's ceph-mon, ceph-osd, ceph-common and radosgw. Nothing outlives it: data, keys and logs lie in a temporary
folder.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import boto3

PACKAGES = ("ceph-mon", "ceph-osd", "ceph-common", "radosgw")
PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin")
START_S = 120
ACCESS_KEY = "TESTACCESSKEY"
SECRET_KEY = "test/secret+never+in/a/log"


class Server(NamedTuple):
    """Where a server listens, and who may use it."""

    endpoint: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def missing() -> list[str]:
    """Programs of Ceph that are not here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install() -> None:
    """Install Ceph from Debian; root only."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a cluster and its gateway on free ports; stop both at the end."""
    with tempfile.TemporaryDirectory(prefix="ceph-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        mon_port, rgw_port = free_port(), free_port()
        fsid = str(uuid.uuid4())
        for daemon in ("mon", "osd", "rgw"):
            (folder / daemon).mkdir()
        (folder / "ceph.conf").write_text(_configuration(folder, fsid, mon_port, rgw_port))
        _keys(folder)
        _run(folder, "monmaptool", "--create", "--fsid", fsid, "--add", "a", f"127.0.0.1:{mon_port}", folder / "monmap")
        _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", folder / "monmap", "--keyring", folder / "keyring")
        stack.enter_context(_daemon(folder, "ceph-mon", "-i", "a"))
        osd = str(uuid.uuid4())
        _run(folder, "ceph", "osd", "new", osd)
        _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        stack.enter_context(_daemon(folder, "ceph-osd", "-i", "0"))
        user = ("--uid=tester", "--display-name=tester", f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}")
        _run(folder, "radosgw-admin", "user", "create", *user)
        stack.enter_context(_daemon(folder, "radosgw", "-n", "client.rgw"))
        endpoint = f"http://127.0.0.1:{rgw_port}"
        _wait(endpoint, folder)
        yield Server(endpoint, folder / "radosgw.log")


def make_bucket(running: Server, name: str) -> str:
    """Make an empty bucket; its URL."""
    boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
        "s3", endpoint_url=running.endpoint
    ).create_bucket(Bucket=name)
    return f"s3://{name}"


def _configuration(folder: Path, fsid: str, mon_port: int, rgw_port: int) -> str:
    return f"""[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$cluster-$name.asok
log file = {folder}/$cluster-$name.log
crash dir = {folder}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
[mon]
mon data = {folder}/mon
mon data avail crit = 0
mon data avail warn = 0
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client]
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw data = {folder}/rgw
rgw enable usage log = false
rgw max listing results = 50
"""


def _keys(folder: Path) -> None:
    """One keyring for all, as they share one machine and one life."""
    full = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    rights = {"mon.": ("--cap", "mon", "allow *"), "client.admin": full, "client.rgw": full}
    rights["osd.0"] = ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
    for number, (name, caps) in enumerate(rights.items()):
        create = ("--create-keyring",) if number == 0 else ()
        _run(folder, "ceph-authtool", folder / "keyring", *create, "--gen-key", "-n", name, *caps)


def _run(folder: Path, program: str, *arguments: object) -> None:
    command = _command(folder, program, *arguments)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=START_S)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command[:1] + command[3:])}: {ran.stderr.strip()[-500:]}")


def _command(folder: Path, program: str, *arguments: object) -> list[str]:
    alone = program in ("monmaptool", "ceph-authtool")
    return [program, *(() if alone else ("-c", f"{folder}/ceph.conf")), *map(str, arguments)]


@contextlib.contextmanager
def _daemon(folder: Path, program: str, *arguments: str) -> Iterator[None]:
    with open(folder / f"{program}.log", "wb") as log:
        command = _command(folder, program, "-f", *arguments)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)  # nothing of it is kept
        process.wait()


def _wait(endpoint: str, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                tail = (folder / "radosgw.log").read_text()[-500:]
                raise RuntimeError(f"the gateway does not answer ({error}): {tail}") from None
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    if missing():
        sys.exit(f"{', '.join(missing())}: not here; install {' '.join(PACKAGES)}")
    with server() as running:
        for bucket in ("bench", "oapseg"):
            make_bucket(running, bucket)
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, **running.environment}).returncode)
