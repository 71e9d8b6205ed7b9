"""`params.yaml` is strict: whatever is wrong in it is one line that names the key, the value and what is allowed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from oapseg.params import default_params_path, load_params, parse_params, recipe


def changed(key: str, value: Any) -> dict[str, Any]:
    """The shipped parameters with one key, its name dotted, set to a value."""
    raw: dict[str, Any] = yaml.safe_load(default_params_path().read_text())
    section = raw
    *sections, last = key.split(".")
    for name in sections:
        section = section[name]
    section[last] = value
    return raw


def test_the_shipped_parameters_are_sound() -> None:
    params = load_params(default_params_path())
    assert params.pool.oap.tau == sorted(params.pool.oap.tau, reverse=True)


def test_every_key_of_the_shipped_parameters_has_a_comment() -> None:
    """The sets of shards are explained together, on the line of `shards.sets`."""
    lines = default_params_path().read_text().splitlines()
    keys = [line.strip() for line in lines if re.match(r" {0,4}[a-z0-9_]+:", line)]
    bare = [line for line in keys if "#" not in line]
    assert bare == ["pretrain:", "finetune:", "val:"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pretrain.learning_rate", 0.1, "pretrain.learning_rate: unknown key"),
        ("training", {}, "training: unknown key"),
        ("pool.oap.seed", 1, "pool.oap.seed: unknown key"),
        ("pretrain.steps", "many", "pretrain.steps: input should be a valid integer, is 'many'"),
        ("pretrain.steps", 2.5, "pretrain.steps: input should be a valid integer, is 2.5"),
        ("pretrain.steps", True, "pretrain.steps: input should be a valid integer, is True"),
        ("pretrain.steps", None, "pretrain.steps: input should be a valid integer, is None"),
        ("pretrain.steps", 0, "pretrain.steps: input should be greater than or equal to 1, is 0"),
        ("seed", 2**32, "seed: input should be less than 4294967296, is 4294967296"),
        ("pretrain.lr", -1, "pretrain.lr: input should be greater than 0, is -1"),
        ("pretrain.lr", float("inf"), "pretrain.lr: input should be a finite number, is inf"),
        ("pretrain.lr", "nan", "pretrain.lr: input should be a finite number, is nan"),
        ("pretrain.lr", "fast", "pretrain.lr: input should be a valid number, is 'fast'"),
        ("pretrain.momentum", 1.5, "pretrain.momentum: input should be less than or equal to 1, is 1.5"),
        ("pretrain.device", "gpu", "pretrain.device: input should be 'auto', 'cpu' or 'cuda', is 'gpu'"),
        ("encoder.train", "yes", "encoder.train: input should be a valid boolean, is 'yes'"),
        ("pool.oap.vote", "median", "pool.oap.vote: input should be 'sum' or 'mean', is 'median'"),
        ("pool.oap.tau", [0.8, 7], "pool.oap.tau.1: input should be less than or equal to 1, is 7"),
        ("compare.published.tokencut", {"tua": 1}, "compare.published.tokencut.tua: unknown key"),
        (
            "compare.published.oap",
            {"tau": [7]},
            "compare.published.oap.tau.0: input should be less than or equal to 1, is 7",
        ),
        ("compare.published_acg", {"step": 9}, "compare.published_acg.step: unknown key"),
        (
            "compare.published_acg",
            {"steps": 0},
            "compare.published_acg.steps: input should be greater than or equal to 1, is 0",
        ),
        ("register.name", "my model", "register.name: string should match pattern"),
        ("promote.version", 0, "promote.version: string should match pattern"),
        ("promote.gates.champion.licences", "any", "promote.gates.champion.licences: input should be a valid array"),
        (
            "promote.gates.champion.benchmarks.val.mask_AP50.max_regression",
            -1,
            "mask_AP50.max_regression: input should be greater than or equal to 0, is -1",
        ),
        ("model.width", 30, "model: width 30 must be a multiple of 4 and of heads 4"),
        ("encoder.global_px", 100, "encoder: global_px 100 must be a multiple of patch_px 8"),
        ("encode.name", "own", "encode: name is own, so weights must name the file that the step encoder wrote"),
        ("shards.sets.val.sources", [{"kind": "photos", "path": ".", "split": "val"}], "split goes with kind coco"),
        (
            "shards.sets.val.sources",
            [{"kind": "voc", "path": "."}],
            "split goes with kind coco, lvis, voc, stuff, city",
        ),
        ("shards.sets.val.sources", [{"kind": "labels", "path": "."}], "photos goes with kind coco_json, labels, sal"),
        ("shards.sets.val.sources", [{"kind": "pascal", "path": "."}], "input should be 'coco', 'classes', 'photos'"),
        ("benchmarks.ecssd.tasks", ["detection"], "benchmarks.ecssd.tasks.0: input should be 'instance', 'semantic', "),
        ("benchmarks.ecssd.measures", ["mask"], "measures go with task instance and no other; tasks are saliency"),
        ("benchmarks.kitti.measures", [], "measures go with task instance and no other; tasks are instance, measures"),
        ("benchmarks.cityscapes27.classes", "ade", "benchmarks.cityscapes27.classes: input should be 'coco_stuff27'"),
        ("benchmarks.mine", {"root": "."}, "benchmarks.mine.sources: field required"),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_what_is_allowed(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_params(changed(key, value), "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    raw = changed("seed", 0)
    del raw["model"]["heads"]
    with pytest.raises(ValueError, match=r"model.heads: field required"):
        parse_params(raw)


def test_every_wrong_key_is_named_at_once() -> None:
    raw = changed("pretrain.steps", 0)
    raw["predict"]["batch"] = "x"
    with pytest.raises(ValueError, match=r"pretrain.steps: .*; predict.batch: "):
        parse_params(raw)


@pytest.mark.parametrize(("value", "expected"), [("1e-4", 0.0001), ("6.25E-4", 0.000625), (1, 1.0)])
def test_a_number_that_yaml_reads_as_text_is_the_number_that_was_meant(value: Any, expected: float) -> None:
    assert parse_params(changed("pretrain.lr", value)).pretrain.lr == expected


def test_a_whole_float_is_an_int() -> None:
    steps = parse_params(changed("pretrain.steps", 3.0)).pretrain.steps
    assert (steps, type(steps)) == (3, int)


def test_what_goes_out_comes_in_again() -> None:
    params = load_params(default_params_path())
    assert parse_params(params.model_dump(mode="json", by_alias=True)) == params


def test_nothing_changes_a_parameter_once_it_is_read() -> None:
    with pytest.raises(ValidationError):
        load_params(default_params_path()).pretrain.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"seed: [", "not YAML ("),
        (b"\xff\xfe\x00\xd8", "not YAML ("),
        (b"seed: \xff", "not YAML ("),
        (b"- seed\n", "must be a mapping of sections, is list"),
        (b"", "must be a mapping of sections, is NoneType"),
        (b"2: 3\n", "sample: field required; "),
        (b"seed: 2024-01-01\n", "seed: input should be a valid integer, is '2024-01-01'"),
        (b"2024-01-01: 3\n", "keys must be str"),
        (b"seed: &a {again: *a}\n", "Circular reference"),
    ],
)
def test_a_file_that_is_none_is_one_line_that_names_it(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_mix_of_sets_is_the_same_in_whatever_order_it_is_written() -> None:
    """A form's mapping comes back in an order of its own; draws and the recipe kept with a model follow the mix's."""
    one, other = {"pretrain": 0.3, "finetune": 0.7}, {"finetune": 0.7, "pretrain": 0.3}
    recipes = [recipe(parse_params(changed("finetune.mix", mix), "params.yaml"), "finetune") for mix in (one, other)]
    assert recipes[0] == recipes[1]
