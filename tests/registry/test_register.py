"""Registration: one version for one content, with what tells where it came from."""

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from registry.born import context

from oapseg.evaluate.scores import Score
from oapseg.registry.card import lacking, model_card
from oapseg.registry.lineage import Lineage, content_sha256, data_version, data_versions, git_state, trace
from oapseg.registry.register import (
    CONTENT_TAG,
    DESCRIPTION_CHARACTERS,
    Version,
    _run,
    description_of,
    flat_params,
    register,
)
from oapseg.registry.server import DEPRECATED_IN_MLFLOW
from oapseg.shards.manifest import Manifest, Shard, manifest_text
from oapseg.shards.offsets import Offsets

pytestmark = pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")

SCORES = {
    f"{group}.{name}": Score(value, value - 1, value + 1, "val", "COCO", "val", 60, "ones", "da7a")
    for group, value in (("generator", 10.0), ("model", 15.0), ("gain", 5.0))
    for name in ("mask_AP50", "mask_AR100")
}
LINEAGE = Lineage("c0ffee" * 6, True, "ab" * 32, {"val": "sha256:1234567890abcdef"}, dvc={"val": "md5:123.dir"})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "params.yaml").write_text("seed: 0\npool:\n  oap: {tau: [0.8, 0.4], vote: mean}\n")
    (tmp_path / "metrics.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One registry for all tests here, since it takes seconds to lay out its tables; each test has its own model."""
    return tmp_path_factory.mktemp("registry") / "mlflow.db"


def registered(name: str, model: Path, database: Path) -> Version:
    scores = model.parent / "metrics.json"
    return register(
        name,
        f"sqlite:///{database}",
        artifacts={"model": model, "evaluate": scores},
        content=content_sha256(model, {"val": scores}),
        card="# shapes",
        metrics={flat: score.value for flat, score in SCORES.items()},
        tags=LINEAGE.tags(),
    )


def client_of(database: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}", registry_uri=f"sqlite:///{database}")


@pytest.mark.slow
def test_one_content_is_one_version_and_another_the_next(model: Path, database: Path) -> None:
    first, again = registered("first", model, database), registered("first", model, database)
    assert (first.version, first.new, again.version, again.new) == (1, True, 1, False)
    (model / "model.safetensors").write_bytes(b"other weights")
    assert registered("first", model, database).version == 2


@pytest.mark.slow
def test_a_version_carries_card_tags_parameters_scores_and_files(model: Path, database: Path) -> None:
    version = registered("second", model, database)
    client = client_of(database)
    kept = client.get_model_version("second", str(version.version))
    assert kept.description == "# shapes"
    assert kept.tags == {
        "git_commit": "c0ffee" * 6,
        "git_dirty": "true",
        "params_sha256": "ab" * 32,
        "data.val": "sha256:1234567890abcdef",
        "dvc.val": "md5:123.dir",
        "content_sha256": version.content_sha256,
    }
    run = client.get_run(kept.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "0", "pool.oap.tau": "[0.8, 0.4]", "pool.oap.vote": "mean"}
    assert run.data.metrics["gain.mask_AP50"] == 5.0
    assert {each.path for each in client.list_artifacts(kept.run_id, "model")} == {
        "model/model.safetensors",
        "model/params.yaml",
    }


@pytest.mark.slow
def test_artifacts_lie_beside_the_embedded_database_and_nothing_is_pickled(model: Path, database: Path) -> None:
    registered("third", model, database)
    files = [path for path in (database.parent / "mlartifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".yaml", ".json"}


WRITES = (  # of a registration, in their order
    *("create_experiment", "create_run", "log_batch", "log_artifacts", "log_artifact", "set_terminated"),
    *("create_registered_model", "create_model_version"),
)


def die_after(write: str, name: str, model: Path, database: Path) -> None:
    """Register, and be killed right after the first write of a kind."""
    from mlflow import MlflowClient

    done: Callable[..., Any] = getattr(MlflowClient, write)

    def killed(*arguments: Any, **options: Any) -> None:
        done(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, write, killed)
    registered(name, model, database)


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
def test_a_registration_that_was_killed_is_finished_by_the_next(write: str, model: Path, database: Path) -> None:
    """One version in the end, one run, and that one whole."""
    child = context().Process(target=die_after, args=(write, write, model, database))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    version = registered(write, model, database)
    client = client_of(database)
    assert version.version == 1
    assert len(client.search_model_versions(f"name = '{write}'")) == 1
    runs = client.search_runs([client.get_experiment_by_name(write).experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert runs[0].data.metrics["model.mask_AP50"] == 15.0
    assert len(client.list_artifacts(runs[0].info.run_id, "model")) == 2


@pytest.mark.slow
def test_on_a_server_a_run_that_was_left_is_ended_and_not_shared(database: Path) -> None:
    """Whoever made it may live: its artifacts must not be written by two."""
    client = client_of(database)
    experiment = client.create_experiment("shared")
    left = client.create_run(experiment, tags={CONTENT_TAG: "1"}).info.run_id
    new = _run(client, experiment, "1", mine=False).info.run_id
    assert new != left
    assert client.get_run(left).info.status == "KILLED"
    assert _run(client, experiment, "1", mine=True).info.run_id == left


@pytest.mark.slow
def test_of_two_versions_of_one_content_the_first_stays(model: Path, database: Path) -> None:
    """As two machines at once may leave behind on a server, which has no lock."""
    first = registered("twice", model, database)
    client = client_of(database)
    kept = client.get_model_version("twice", "1")
    for _ in range(2):
        client.create_model_version("twice", kept.source, kept.run_id, tags={CONTENT_TAG: first.content_sha256})
    client.set_registered_model_alias("twice", "champion", "3")
    assert registered("twice", model, database).version == 1
    assert [each.version for each in client.search_model_versions("name = 'twice'")] == [3, 1]


def test_a_registry_that_cannot_be_used_is_one_line(model: Path) -> None:
    with pytest.raises(ValueError, match=r"^register\.tracking_uri: nowhere://x refused \([^\n]*\)$"):
        register("x", "nowhere://x", artifacts={"model": model}, content="0", card="", metrics={}, tags={})


def test_telemetry_is_off_once_the_registry_is_used(model: Path) -> None:
    with pytest.raises(ValueError, match="refused"):
        register("x", "nowhere://x", artifacts={"model": model}, content="0", card="", metrics={}, tags={})
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_nested_parameters_become_dotted_names() -> None:
    params = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "f": {}}
    assert flat_params(params) == {"a.b.c": "1", "a.d": "[1, 2]", "e": "null", "f": "{}"}


def test_the_content_changes_with_weights_names_and_scores(model: Path) -> None:
    path = model.parent / "metrics.json"
    scores = {"val": path}
    first = content_sha256(model, scores)
    assert first == content_sha256(model, scores)
    path.write_text('{"a": 1}')
    rescored, more = content_sha256(model, scores), content_sha256(model, scores | {"coco": path})
    (model / "model.safetensors").rename(model / "weights.safetensors")
    assert len({first, rescored, more, content_sha256(model, scores)}) == 4


def lock(tmp_path: Path, *outs: dict[str, str]) -> Path:
    path = tmp_path / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": {"shard@val": {"cmd": "x", "outs": list(outs)}}}))
    return path


def write_shards(folder: Path, sha256: str, **more: Any) -> str:
    shard = Shard(f"s3://bucket/{folder.name}/shard-000000.tar", 1, 512, sha256, Offsets([("a", 512, 9, 1536, 2)]))
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest_text(Manifest(str(folder), (shard,), "photos", (), (), {}), **more))
    return str(folder)


def test_the_data_version_is_a_hash_of_the_shards_wherever_they_lie(tmp_path: Path) -> None:
    places = [("here", "aa"), ("there", "aa"), ("other", "bb")]
    versions = [data_version(write_shards(tmp_path / place, each), tmp_path / "none.lock") for place, each in places]
    assert versions[0][0].startswith("sha256:")
    assert versions[0] == versions[1] != versions[2]
    assert versions[0][1] == ""


def test_dvcs_hash_of_the_shards_or_of_the_nearest_folder_above_is_known_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = lock(tmp_path, {"path": "work/shards/val", "md5": "1.dir"}, {"path": "work/shards", "md5": "2.dir"})
    val, train = (write_shards(Path("work/shards") / name, "aa") for name in ("val", "train"))
    assert data_version(val, recorded)[1] == "md5:1.dir"
    assert data_version(f"{train}/manifest.json", recorded)[1] == "md5:2.dir"


def test_sets_of_one_name_that_differ_are_one_line_and_the_same_content_counts_once(tmp_path: Path) -> None:
    none = tmp_path / "none.lock"
    first, differs = (write_shards(tmp_path / place / "val", each) for place, each in (("a", "aa"), ("b", "bb")))
    same = write_shards(tmp_path / "c" / "val", "aa", dvc={"rev": "v3", "path": "data/val", "md5": "3.dir"})
    train = write_shards(tmp_path / "b" / "train", "bb")
    with pytest.raises(ValueError, match=rf"^--shards: {first} and {differs} are both called val and differ \(sha256:"):
        data_versions([first, train, differs], none)
    assert data_versions([first, same, train], none) == {
        "val": (data_version(first, none)[0], "md5:3.dir"),
        "train": data_version(train, none),
    }


def test_without_a_lock_dvcs_hash_is_what_the_manifest_says_of_its_revision(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "val", "aa", dvc={"rev": "v3", "path": "data/val", "md5": "3.dir"})
    assert data_version(shards, tmp_path / "none.lock")[1] == "md5:3.dir"


def test_the_commit_is_clean_until_a_tracked_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == ("unknown", False)
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    commit, dirty = git_state()
    (tmp_path / "dvc.lock").write_text("2")
    assert (len(commit), dirty, git_state()) == (40, False, (commit, False))
    (tmp_path / "code.py").write_text("2")
    assert git_state() == (commit, True)


@pytest.mark.parametrize(("built", "known"), [("abc123", ("abc123", False)), ("abc123-dirty", ("abc123", True))])
def test_in_an_image_the_commit_is_what_it_was_built_from(
    built: str, known: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAPSEG_GIT_COMMIT", built)
    assert git_state() == known


def test_the_card_tells_scores_protocol_data_and_lineage_within_the_registrys_limit() -> None:
    manifest = Manifest("work/shards/val", (), "coco ./val2017", ("instances",), (), {})
    by_class = replace(
        SCORES["model.mask_AP50"], protocol="COCO by class", mapping="votes", fit_on="val", mapped_clusters=2
    )
    scores = {"val": {"model.class_mask_AP50": by_class, **SCORES}}
    card = model_card("shapes", scores, [manifest], LINEAGE, {"val": "CC0-1.0"})
    for part in (
        "15.0 (14.0 to 16.0)",
        "60 photos of val",
        "val, 60 photos of val: COCO.",
        "ones",
        "coco ./val2017",
        "md5:123.dir",
        "c0ffee",
    ):
        assert part in card
    assert "| val | 0 | coco ./val2017 | instances | CC0-1.0 | `sha256:1234567890ab`, `md5:123.dir` |" in card
    assert lacking(card) == []
    assert len(card) < DESCRIPTION_CHARACTERS


def test_a_card_too_long_for_the_registry_is_cut_after_a_line_and_says_where_the_whole_one_is() -> None:
    line = "| a benchmark | 15.0 |\n"
    assert description_of(line) == line
    said = description_of(line * 1000)
    assert DESCRIPTION_CHARACTERS - 2 * len(line) < len(said) <= DESCRIPTION_CHARACTERS
    rows, note = said.split("\n\n")
    assert set(rows.split("\n")) == {line.strip()}
    assert "card.md" in note


def test_a_card_without_what_it_tells_is_not_complete() -> None:
    unknown = model_card("shapes", {}, [], replace(LINEAGE, commit="unknown"), {})
    assert lacking(unknown) == ["a score with its interval", "the protocol of its scores", "the commit"]


def test_lineage_names_the_parent_the_run_and_the_image(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "model.safetensors").write_bytes(b"before")
    monkeypatch.setenv("OAPSEG_RUN", "run-7")
    monkeypatch.setenv("OAPSEG_IMAGE", "registry/oapseg@sha256:1234")
    monkeypatch.setenv("OAPSEG_DATA_REV", "v3")
    tags = trace(model, [], parent).tags()
    said = (tags["pipeline_run"], tags["image"], tags["data_rev"])
    assert said == ("run-7", "registry/oapseg@sha256:1234", "v3")
    assert tags["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert tags["parent_weights_sha256"] == hashlib.sha256(b"before").hexdigest()
