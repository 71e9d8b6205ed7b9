import argparse
import re
from pathlib import Path

import pytest
import yaml

from components import sample, shard
from oapseg.params import default_params_path
from oapseg.shards.manifest import load_manifest


@pytest.fixture
def params(tmp_path) -> str:
    """The shipped parameters with six photos; the sets' root is a folder that is not there."""
    raw = yaml.safe_load(default_params_path().read_text())
    raw["sample"] = {"train": 4, "val": 2, "size_px": 128}
    for chosen in raw["shards"]["sets"].values():
        chosen["root"] = str(tmp_path / "nowhere")
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def run(step, params: str, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    step.add_arguments(parser)
    args = parser.parse_args(arguments)
    args.params = params
    step.main(args)


def test_the_sample_is_sharded_with_the_labels_that_each_set_asks_for(params, tmp_path, capsys):
    root, shards = tmp_path / "sample", tmp_path / "shards"
    run(sample, params, "--out", str(root))
    for name in ("pretrain", "val"):
        run(shard, params, name, "--root", str(root), "--out", str(shards / name))
    unlabeled, labeled = (load_manifest(str(shards / name)) for name in ("pretrain", "val"))
    assert (unlabeled.num_samples, unlabeled.labels) == (4, ())
    assert (labeled.num_samples, labeled.labels) == (2, ("instances", "panoptic"))
    assert len(labeled.categories) == 13
    assert "4 photos in 1 shards" in capsys.readouterr().out


def test_without_root_the_one_of_the_parameters_is_read(params, tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        run(shard, params, "val", "--out", str(tmp_path / "out"))


def test_an_unknown_set_names_the_known_ones(params, tmp_path):
    with pytest.raises(ValueError, match="no valid; it has finetune, pretrain, val"):
        run(shard, params, "valid", "--out", str(tmp_path / "out"))


def test_the_step_says_what_it_skipped(params, tmp_path, capsys):
    photos = Path(tmp_path / "sample")
    run(sample, params, "--out", str(photos))
    raw = yaml.safe_load(Path(params).read_text())
    raw["shards"]["max_broken"] = 0.5
    Path(params).write_text(yaml.safe_dump(raw))
    (photos / "images/train/broken.jpg").write_bytes(b"")
    run(shard, params, "pretrain", "--root", str(photos), "--out", str(tmp_path / "out"))
    assert "skipped 1 empty file (broken.jpg)" in capsys.readouterr().out


def test_parts_are_written_and_joined_by_the_step(params, tmp_path, capsys):
    photos = tmp_path / "sample"
    run(sample, params, "--out", str(photos))
    for number in (1, 2):
        run(shard, params, "pretrain", "--root", str(photos), "--out", str(tmp_path / "out"), "--part", f"{number}/2")
    run(shard, params, "pretrain", "--out", str(tmp_path / "out"), "--parts", "2", "--join")
    assert "4 photos in 1 shards" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "0/2"], "--part: must be I/N with I in 1..N, such as 3/8, is '0/2'"),
        (["--part", "3/2"], "--part: must be I/N"),
        (["--part", "two"], "--part: must be I/N"),
        (["--join"], "--join needs --parts N"),
        (["--parts", "2"], "--join needs --parts N"),
        (["--join", "--parts", "2", "--part", "1/2"], "neither goes with --part"),
        (["--join", "--parts", "0"], "--parts: must be at least 1, is 0"),
    ],
)
def test_a_part_that_is_none_is_said_in_a_line(arguments, message, params, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(shard, params, "val", "--out", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()
