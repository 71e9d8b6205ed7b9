"""The steps one after another, as `dvc.yaml` runs them, on a few photos and a model of test size."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from report.read_page import from_outside
from train.tiny import tiny_params, write_params

import oapseg
import oapseg.cli
from components.__main__ import main
from oapseg.checkpoint.export import load_model, model_hash
from oapseg.shards.manifest import load_manifest

CHAIN = """
sample --out {0}/sample
shard pretrain --root {0}/sample --out {0}/shards/pretrain
shard finetune --root {0}/sample --out {0}/shards/finetune
shard val --root {0}/sample --out {0}/shards/val
encoder --shards {0}/shards/pretrain --out {0}/encoder
pretrain --shards {0}/shards/pretrain --encoder {0}/encoder --out {0}/pretrain
finetune --start {0}/pretrain --encoder {0}/encoder --out {0}/finetune
  --set pretrain {0}/shards/pretrain --set finetune {0}/shards/finetune
predict --encoder {0}/encoder --model pretrained {0}/pretrain/model --model model {0}/finetune/model
  --shards {0}/shards/val --out {0}/predict
evaluate --predictions {0}/predict --shards {0}/shards/val --out {0}/evaluate
report --evaluate {0}/evaluate --predictions {0}/predict --pretrain {0}/pretrain --finetune {0}/finetune
  --shards {0}/shards/val --out {0}/report
register --model {0}/finetune/model --parent {0}/pretrain/model --evaluate {0}/evaluate --report {0}/report
  --out {0}/register
  --shards {0}/shards/pretrain {0}/shards/finetune {0}/shards/val
"""
STEPS = [shlex.split(line) for line in CHAIN.replace("\n  ", " ").strip().splitlines()]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    tiny = tiny_params(
        sample={"train": 8, "val": 3, "size_px": 96},
        encoder={"train": True},
        predict={"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"},
        evaluate={"bootstrap": 20},
        report={"photos": 2, "extremes": 1},
        register={"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        promote={"journal": f"{folder}/promotions"},
    )
    return write_params(tiny, folder / "params.yaml")


@pytest.fixture(scope="module")
def work(params: Path) -> Path:
    """The folder that the whole chain has written into."""
    for arguments in STEPS:
        assert run(arguments, params) == 0, arguments
    return params.parent


def run(arguments: list[str], params: Path) -> int:
    return main([word.format(params.parent) for word in arguments] + ["--params", str(params)])


def test_the_model_is_registered_as_version_1_with_its_scores(work: Path) -> None:
    version = json.loads((work / "register" / "version.json").read_text())
    assert (version["name"], version["version"]) == ("oapseg", 1)
    assert "mask AP50" in (work / "register" / "card.md").read_text()


def test_registering_the_same_model_again_is_the_same_version(work: Path, params: Path) -> None:
    first = (work / "register" / "version.json").read_bytes()
    assert run(STEPS[-1], params) == 0
    assert (work / "register" / "version.json").read_bytes() == first


def test_a_model_is_not_registered_with_the_scores_of_the_one_it_went_on_from(
    work: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = [word.replace("{0}/finetune/model", "{0}/pretrain/model") for word in STEPS[-1]]
    swapped[swapped.index("{0}/register")] = str(tmp_path / "register")
    assert run(swapped, params) == 2
    said = capsys.readouterr().err
    assert f"{work}/evaluate/metrics.json: scores of val are of model {model_hash(work / 'finetune' / 'model')}" in said
    assert not (tmp_path / "register").exists()


def test_the_gate_judges_the_version_and_the_registered_model_is_the_one_that_is_used(work: Path) -> None:
    verdict = json.loads((work / "register" / "verdict.json").read_text())
    rules = [(rule["rule"], rule["passed"]) for rule in verdict["rules"]]
    assert rules[0] == ("files", True)
    assert ("required", True) in rules
    assert verdict["passed"] == all(passed for _, passed in rules)
    model = oapseg.load("models:/oapseg/1", device="cpu", tracking_uri=f"sqlite:///{work}/mlflow.db")
    assert model.look.image_px == 64
    assert "mask AP50" in str(model.card)
    (masks,) = model([next((work / "sample").rglob("*.jpg"))])
    assert masks.masks.shape[1:] == (96, 96)


def test_a_version_that_must_pass_and_does_not_fails_the_step_registered_all_the_same(
    work: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = yaml.safe_load(params.read_text())
    strict["register"]["must_pass"] = True
    strict["promote"]["gates"]["champion"]["benchmarks"]["val"]["mask_AP50"]["min"] = 100
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(strict))
    assert main([word.format(work) for word in STEPS[-1]] + ["--params", str(tmp_path / "params.yaml")]) == 2
    assert "register.must_pass: gate of champion: refused: " in capsys.readouterr().err
    assert json.loads((work / "register" / "version.json").read_text())["version"] == 1


def test_a_version_is_promoted_by_the_step_that_the_pipeline_promote_runs(
    work: Path, params: Path, tmp_path: Path
) -> None:
    chosen = yaml.safe_load(params.read_text())
    gates = {"champion": {"benchmarks": {"val": {"mask_AP50": {"max_regression": 5}}}, "licences": None}}
    commit = {"override": "a working copy that is no clone has no commit"}
    chosen["promote"] |= {"journal": str(tmp_path / "promotions"), "gates": gates} | commit
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen))
    command = ["promote", "--out", str(tmp_path / "promote"), "--params", str(tmp_path / "params.yaml")]
    assert main(command) == 0
    decision = json.loads((tmp_path / "promote" / "decision.json").read_text())
    assert (decision["version"], decision["holder"], decision["entry"]) == (1, None, 1)
    assert main(command) == 0
    assert len(list((tmp_path / "promotions").rglob("*.json"))) == 1
    uri = f"sqlite:///{work}/mlflow.db"
    assert oapseg.load("models:/oapseg@champion", device="cpu", tracking_uri=uri).card


def test_the_report_needs_nothing_from_outside(work: Path) -> None:
    page = (work / "report" / "index.html").read_text()
    assert from_outside(page) == []
    assert page.count('<section class="photo">') == 3 * 1 + 2


def test_names_of_clusters_come_into_predictions_that_are_not_made_anew(
    work: Path, params: Path, tmp_path: Path
) -> None:
    part = work / "predict" / "model" / "part-000000.json"
    before = json.loads(part.read_text())
    named = before[0]["category_id"]
    (tmp_path / "names.json").write_text(json.dumps({str(named): "pebble"}))
    model = str(work / "finetune" / "model")
    assert oapseg.cli.main(["name-clusters", model, str(tmp_path / "names.json"), "--params", str(params)]) == 0
    predict, report = (next(step for step in STEPS if step[0] == name) for name in ("predict", "report"))
    assert run(predict, params) == 0
    after = json.loads(part.read_text())
    assert [each.pop("cluster_name", None) for each in after] == [
        "pebble" if each["category_id"] == named else None for each in before
    ]
    assert after == before
    assert run([word.replace("{0}/report", str(tmp_path)) for word in report], params) == 0
    assert "pebble" in (tmp_path / "index.html").read_text()
    (tmp_path / "names.json").write_text(json.dumps({str(named): None}))
    assert oapseg.cli.main(["name-clusters", model, str(tmp_path / "names.json"), "--params", str(params)]) == 0


def test_metrics_compare_model_and_generator_by_the_same_names(work: Path) -> None:
    shown = json.loads((work / "evaluate" / "headlines.json").read_text())
    for group in ("generator", "model"):
        assert {f"{group}.{name}" for name in ("mask_AP50", "mask_AR100", "box_AP50", "box_AR100")} <= set(shown)
        assert all(0 <= value <= 100 for name, value in shown.items() if name.startswith(f"{group}."))
    assert shown["gain.mask_AR100"] == pytest.approx(
        shown["model.mask_AR100"] - shown["generator.mask_AR100"], abs=2e-3
    )


def test_the_curves_that_dvc_plots_are_columns_of_the_histories(work: Path) -> None:
    for plot in yaml.safe_load(Path("dvc.yaml").read_text())["plots"]:
        (settings,) = plot.values()
        for path, names in settings["y"].items():
            columns = (work / Path(path).relative_to("work")).read_text().splitlines()[0].split(",")
            assert {settings["x"], *([names] if isinstance(names, str) else names)} <= set(columns)


def test_the_registered_model_loads_and_photos_were_seen_by_every_set(work: Path) -> None:
    assert load_model(work / "finetune" / "model", "cpu").backbone.encoder.patch_px == 8
    sets = {name: load_manifest(str(work / "shards" / name)) for name in ("pretrain", "finetune", "val")}
    assert [manifest.num_samples for manifest in sets.values()] == [8, 8, 3]


def test_a_finished_training_run_again_changes_nothing(work: Path, params: Path) -> None:
    before = {path: path.read_bytes() for path in sorted((work / "pretrain" / "model").iterdir())}
    assert run(next(arguments for arguments in STEPS if arguments[0] == "pretrain"), params) == 0
    assert {path: path.read_bytes() for path in sorted((work / "pretrain" / "model").iterdir())} == before
