"""The step `register`: scores are of the very model that they are registered with; what is broken is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from registry.versions import write_model, write_scores
from train.tiny import tiny_params, tiny_shards, write_params

from components.__main__ import main
from oapseg import storage
from oapseg.checkpoint.export import model_hash
from oapseg.evaluate.resamples import RESAMPLES
from oapseg.registry.evidence import METRICS
from oapseg.registry.server import DEPRECATED_IN_MLFLOW

pytestmark = pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, a set of shards, a report; a gate that asks for nothing but a score on val."""
    folder = tmp_path_factory.mktemp("register")
    for name in ("mine", "other"):
        write_model(folder / name, name.encode())
    tiny_shards(folder, count=1)
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<p>scores</p>")
    gates = {"champion": {"benchmarks": {"val": {"mask_AP50": {"min": 1}}}, "licences": None}}
    params = tiny_params(
        register={"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        promote={"journal": f"{folder}/promotions", "gates": gates},
    )
    write_params(params, folder / "params.yaml")
    return folder


def register(folder: Path, scores: Path, out: Path, *shards: Path) -> int:
    words = ["--params", folder / "params.yaml", "--model", folder / "mine", "--evaluate", scores, "--out", out]
    words += ["--report", folder / "report", "--shards", *(shards or (folder / "shards",))]
    return main(["register", *map(str, words)])


def test_scores_of_another_model_are_refused_by_both_hashes_and_nothing_is_written(
    laid_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = write_scores(tmp_path / "val", 20.0, laid_out / "other")
    assert register(laid_out, scores, tmp_path / "out") == 2
    mine, other = (model_hash(laid_out / name) for name in ("mine", "other"))
    assert capsys.readouterr().err == (
        f"python -m components register: --evaluate: {scores}/metrics.json: scores of val are of model {other} and not "
        f"of {mine}, which --model {laid_out}/mine is\n"
    )
    assert not (tmp_path / "out").exists()
    assert not (laid_out / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        (RESAMPLES, lambda content: content[: len(content) // 2], "not whole, or not as the step evaluate writes it ("),
        (RESAMPLES, lambda _: b"", "not whole, or not as the step evaluate writes it ("),
        (METRICS, lambda content: content[: len(content) // 2], "not JSON ("),
        (METRICS, lambda _: b"\xff\xff", "not JSON ("),
    ],
)
def test_a_file_of_scores_that_is_not_whole_is_one_line(
    name: str,
    harm: Callable[[bytes], bytes],
    said: str,
    laid_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = write_scores(tmp_path / "val", 20.0, laid_out / "mine")
    (scores / name).write_bytes(harm((scores / name).read_bytes()))
    assert register(laid_out, scores, tmp_path / "out") == 2
    line = capsys.readouterr().err
    assert line.startswith(f"python -m components register: {scores}/{name}: {said}")
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_sets_of_one_name_are_one_line(laid_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_shards(tmp_path, count=2)
    scores = write_scores(tmp_path / "val", 20.0, laid_out / "mine")
    capsys.readouterr()
    assert register(laid_out, scores, tmp_path / "out", laid_out / "shards", tmp_path / "shards") == 2
    line = capsys.readouterr().err
    assert f"--shards: {laid_out}/shards and {tmp_path}/shards are both called shards and differ (sha256:" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_scores_that_do_not_say_which_model_they_are_of_are_registered_and_are_no_evidence(
    laid_out: Path, tmp_path: Path
) -> None:
    """When the version is new, and when it is registered again and judged by what the registry has."""
    unsaid = write_scores(tmp_path / "val", 20.0, None)
    for _ in range(2):
        assert register(laid_out, unsaid, tmp_path / "out", laid_out / "shards", laid_out / "shards") == 0
        rules = {each["rule"]: each for each in storage.read_json(tmp_path / "out" / "verdict.json")["rules"]}
        assert rules["files"]["said"] == "scores of val do not say which model they are of"
        assert rules["required"]["said"] == "not scored on it (scored on: none)"
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.count("\n| shards |") == 1


@pytest.mark.slow
def test_scores_of_the_model_that_is_registered_pass_its_gate(laid_out: Path, tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "val", 20.0, laid_out / "mine")
    for _ in range(2):
        assert register(laid_out, scores, tmp_path / "out") == 0
        found = json.loads((tmp_path / "out" / "verdict.json").read_text())["rules"]
        assert {each["rule"] for each in found if each["passed"]} >= {"files", "required", "min"}
