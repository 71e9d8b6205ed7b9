"""The image that serves, as a cluster runs it: it is well by its own health check, and photos come back as masks."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confined import CONFINED, engine, podman
from PIL import Image
from use.small import photo_bytes, small_model

IMAGE = "localhost/oapseg:serve"
START_S = 300  # a machine that is busy
SEND = """import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen
try:
    answer = urlopen(Request("http://127.0.0.1:8080" + sys.argv[1], sys.stdin.buffer.read() or None))
except HTTPError as refused:
    answer = refused
print(answer.status, answer.read().decode())
"""

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container of the image's own command on a small model, once it is well."""
    folder = tmp_path_factory.mktemp("serve")
    model = small_model(folder / "model")
    for place in (model, *model.iterdir()):
        place.chmod(0o755)
    options = (*CONFINED, f"--volume={model}:/model:ro", "--env=OMP_NUM_THREADS=1")
    with engine(folder, IMAGE, "make image-serve"):
        started = podman("run", "--detach", *options, IMAGE)
        assert started.returncode == 0, started.stderr
        name = started.stdout.strip()
        try:
            deadline = time.monotonic() + START_S
            while podman("healthcheck", "run", name).returncode:
                assert time.monotonic() < deadline, podman("logs", name).stderr
                time.sleep(1)
            yield name
        finally:
            podman("rm", "--force", "--time=1", name)


def ask(server: str, path: str, data: bytes = b"") -> tuple[int, Any]:
    """Status and answer of a request to the server, sent beside it: it has no network but its own."""
    said = podman("exec", "--interactive", server, "python", "-c", SEND, path, data=data)
    assert said.returncode == 0, said.stderr
    status, _, answer = said.stdout.partition(" ")
    return int(status), json.loads(answer)


def test_its_own_health_check_says_that_it_is_well(server: str) -> None:
    assert podman("inspect", "--format", "{{.State.Health.Status}}", server).stdout.strip() == "healthy"


def test_a_photo_comes_back_as_masks_of_the_model_that_is_mounted(server: str) -> None:
    status, said = ask(server, "/v1/masks?min_score=0", photo_bytes(48, 72, 0))
    assert (status, said["size"]) == (200, [48, 72])
    assert len(said["masks"]) > 0
    assert said["model"]["sha256"] == ask(server, "/v1/model")[1]["sha256"]


def test_what_is_no_photo_is_refused_in_a_line(server: str) -> None:
    status, said = ask(server, "/v1/masks", b"\x7fELF no photo")
    assert (status, said["reason"]) == (415, "wrong_type")


def test_large_photos_need_no_place_to_write_to(server: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4000, 3000), "red").save(file, "JPEG")
    assert ask(server, "/v1/masks?side_px=64", file.getvalue())[0] == 200
    assert podman("exec", server, "touch", "/app/x").returncode != 0


def test_stopped_it_answers_what_it_has_taken_and_ends_in_order(server: str) -> None:
    assert podman("stop", "--time=60", server).returncode == 0
    assert podman("inspect", "--format", "{{.State.ExitCode}}", server).stdout.strip() == "0"
    assert "every request that was taken is answered" in podman("logs", server).stdout
