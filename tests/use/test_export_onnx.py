"""`oapseg export`: graphs that give PyTorch's masks in onnxruntime, and a report that fails where they do not."""

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from use.small import photo_bytes, small_model

import oapseg
from oapseg.checkpoint.model import Model, clusters
from oapseg.cli import main
from oapseg.evaluate.intervals import Measured
from oapseg.masks import iou
from oapseg.params import ExportParams, SetParams, Source, default_params_path, load_params
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set, list_source
from oapseg.shards.write import write_set
from oapseg.use.export_command import Shown, photos_of
from oapseg.use.export_cost import differences, labelled, losses
from oapseg.use.export_graph import OUTPUTS, sample_by_gathers, sides_of
from oapseg.use.export_parity import measure_parity
from oapseg.use.onnx_model import OnnxModel

PARAMS = load_params(default_params_path())
onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


def test_sampling_by_gathers_is_grid_sample() -> None:
    image, grid = torch.rand(3, 5, 7, 6), torch.rand(3, 4, 9, 2) * 3 - 1.5
    grid[0, 0, :4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-9.0, 0.0], [0.0, 1e6]])
    expected = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    assert torch.allclose(sample_by_gathers(image, grid), expected, atol=1e-6)


def images(count: int) -> list[Image.Image]:
    return [Image.open(io.BytesIO(photo_bytes(60 + 7 * seed, 90, seed))) for seed in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two sides and its graphs at all precisions."""
    made = tmp_path_factory.mktemp("export")
    small_model(made / "model", windows=2, window_px=48, interactions=1, pixel_layers=1, decoder_layers=1)
    content: dict[str, Any] = yaml.safe_load(default_params_path().read_text())
    content["export"] |= {"precisions": ["fp32", "fp16", "int8"], "photos": 3, "cost_photos": 2}
    content["export"]["bounds"]["int8"] = {"min_iou": 1.0, "max_score": 0.0, "max_clusters": 1.0, "max_loss": 100.0}
    (made / "params.yaml").write_text(yaml.safe_dump(content))
    words = ["--model", str(made / "model"), "--out", str(made / "m.onnx"), "--params", str(made / "params.yaml")]
    logging.disable()  # the exporter writes a line for each tensor, which pytest would keep
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            (made / "code").write_text(str(main(["export", *words])))
    finally:
        logging.disable(logging.NOTSET)
    (made / "said").write_text(said.getvalue())
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return oapseg.load(folder / "model", device="cpu")


@pytest.mark.slow
def test_a_graph_gives_the_same_masks_as_the_model_at_the_photos_own_size(folder: Path, model: Model) -> None:
    for ours, theirs in zip(model(images(3)), OnnxModel(folder / "m.onnx")(images(3)), strict=True):
        assert ours.masks.shape == theirs.masks.shape
        assert torch.allclose(ours.scores, theirs.scores, atol=1e-5)
        assert iou(ours.masks, theirs.masks).diagonal().min() > 0.99
        assert torch.equal(clusters(ours), clusters(theirs))
        assert torch.equal(ours.kind, theirs.kind)


@pytest.mark.slow
def test_a_graph_knows_levels_as_the_model_does(folder: Path, model: Model) -> None:
    exported, photos = OnnxModel(folder / "m.onnx"), images(3)
    for ours, theirs, wholes, theirs_too in zip(
        model(photos), exported(photos), model(photos, level=1.0), exported(photos, level=1.0), strict=True
    ):
        assert torch.equal(ours.level, theirs.level)
        assert 0 < len(wholes) == len(theirs_too) < len(ours)
        assert torch.allclose(wholes.scores, theirs_too.scores, atol=1e-5)
    with pytest.raises(ValueError, match=r"^level: must be from 0 to 1, is 2$"):
        exported(photos, level=2.0)


@pytest.mark.slow
def test_a_graph_is_of_standard_operators_of_opset_18_with_a_dynamic_batch_and_no_grid_sample(
    folder: Path, model: Model
) -> None:
    assert sides_of(model) == [64, 48]
    for name, side in (("m.onnx", 64), ("m.48px.onnx", 48)):
        graph = onnx.load(str(folder / name))
        assert [(each.domain, each.version) for each in graph.opset_import] == [("", 18)]
        kinds = {node.op_type for node in graph.graph.node}
        assert not {kind for kind in kinds if kind == "GridSample" or "Sequence" in kind}
        (given,) = graph.graph.input
        shape = given.type.tensor_type.shape.dim
        assert [each.dim_value for each in shape][1:] == [3, side, side]
        assert shape[0].dim_param
        assert tuple(each.name for each in graph.graph.output) == OUTPUTS


@pytest.mark.slow
def test_the_report_tells_parity_sizes_and_ap_of_each_precision(folder: Path) -> None:
    report = json.loads((folder / "m.parity.json").read_text())
    assert set(report["precisions"]) == {"fp32", "fp16", "int8"}
    assert report["precisions"]["int8"]["bytes"] < 0.9 * report["precisions"]["fp32"]["bytes"]
    assert [len(report["precisions"][name]["failures"]) for name in ("fp32", "fp16", "int8")] == [0, 0, 2]
    for each in report["precisions"].values():
        assert each["ap"].keys() == report["pytorch"].keys() == {"mask_AP", "mask_AP50", "mask_AR100"}
        for name, difference in each["difference"].items():
            assert difference["low"] <= difference["high"]
            assert difference["value"] == pytest.approx(each["ap"][name] - report["pytorch"][name], abs=0.002)
        assert each["parity"]["photos"] == 3
    assert report["precisions"]["fp32"]["parity"]["iou_mean"] > 0.9999
    assert report["precisions"]["fp32"]["ap"] == pytest.approx(report["pytorch"], abs=0.01)
    assert report["labelled_photos"] == 2
    text = (folder / "m.parity.md").read_text()
    assert "query by query, on photos of the embedded sample, which is drawn: no real photos." in text
    assert all(f"| {name} |" in text for name in report["precisions"])


@pytest.mark.slow
def test_changed_weights_are_beyond_the_bound(folder: Path, model: Model, tmp_path: Path) -> None:
    pixels = [torch.from_numpy(np.array(image)) for image in images(2)]
    bound = export_params().bounds.fp32
    for name in ("m.onnx", "m.48px.onnx"):
        graph = onnx.load(str(folder / name))
        weights = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
        changed = onnx.numpy_helper.to_array(weights) * np.float32(0.5)
        weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
        onnx.save(graph, str(tmp_path / name))
    assert measure_parity(model, OnnxModel(folder / "m.onnx"), pixels).failures(bound) == []
    assert measure_parity(model, OnnxModel(tmp_path / "m.onnx"), pixels).failures(bound)


def export_params() -> ExportParams:
    return PARAMS.export


@pytest.mark.slow
def test_the_command_fails_beyond_a_bound_and_says_by_how_much_with_its_files_written(folder: Path) -> None:
    assert (folder / "code").read_text() == "1"
    assert "oapseg export: int8: mean mask IoU 0." in (folder / "said").read_text()
    assert "oapseg export: fp" not in (folder / "said").read_text()
    assert (folder / "m.int8.onnx").exists()


@pytest.mark.parametrize(("photos", "cost_photos"), [(4, 2), (2, 4), (3, 0)])
def test_parity_and_ap_have_each_as_many_drawn_photos_as_the_parameters_say(photos: int, cost_photos: int) -> None:
    counts = {"photos": photos, "cost_photos": cost_photos, "precisions": ["fp32", "fp16"]}
    shown, labels = photos_of(None, None, PARAMS.model_copy(update={"export": PARAMS.export.model_copy(update=counts)}))
    assert len(shown.images) == photos
    assert (0 if labels is None else len(labels.images)) == cost_photos
    assert "no real photos" in shown.place


def test_photos_that_are_given_are_those_of_parity_and_without_fewer_bits_no_others_are_read() -> None:
    given = Shown("mine", [torch.zeros(8, 8, 3, dtype=torch.uint8)])
    assert photos_of(given, "nowhere", PARAMS) == (given, None)


def test_photos_with_labels_are_spread_over_their_set_with_the_labels_of_each(tmp_path: Path) -> None:
    listing = SetParams(root=str(tmp_path), sources=[Source(kind="coco", path=".", split="val")])
    drawn = PARAMS.sample.model_copy(update={"train": 1, "val": 6})
    make_sample(tmp_path, drawn, seed=PARAMS.seed, workers=1)
    sizes = {"samples_per_shard": 4, "max_broken": 0.0, "max_pixels": 10**8, "workers": 1}
    write_set(list_set(listing), str(tmp_path / "shards"), **sizes)
    every, some = (labelled(str(tmp_path / "shards"), count, PARAMS) for count in (9, 3))
    assert len(every.images) == 6
    assert [each["id"] for each in some.truth["images"]] == [every.truth["images"][place]["id"] for place in (0, 2, 4)]
    assert torch.equal(some.images[1], every.images[2])
    kept = {each["id"] for each in some.truth["images"]}
    assert some.truth["annotations"] == [each for each in every.truth["annotations"] if each["image_id"] in kept]
    assert torch.equal(labelled(None, 6, PARAMS).images[5], every.images[5])


def test_a_set_without_labels_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photo_bytes(30, 40, 0))
    listed = [list_source(Source(kind="photos", path="."), str(tmp_path / "photos"))]
    write_set(listed, tmp_path / "shards", samples_per_shard=4, max_broken=0.0, max_pixels=10**8, workers=1)
    with pytest.raises(ValueError, match=r"--labels: .*shards: no photo of it shows a labelled instance"):
        labelled(str(tmp_path / "shards"), 2, PARAMS)


def test_a_score_that_falls_further_than_its_bound_is_told_by_how_much_and_nan_is_beyond_any() -> None:
    bound = export_params().bounds.int8.model_copy(update={"max_loss": 1.5})

    def fallen(points: float) -> list[str]:
        before = {"mask_AP": Measured(0.3, np.array([0.2, 0.4]))}
        after = {"mask_AP": Measured(0.3 - points / 100, np.array([0.2, 0.4]) - points / 100)}
        return losses(differences(after, before), bound)

    assert fallen(-9.0) == fallen(1.4) == []
    assert fallen(1.75) == ["mask_AP differs by -1.75 points, beyond max_loss 1.5"]
    assert len(fallen(float("nan"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "model.pt"], "--out: must end in .onnx, is model.pt"),
        (["--out", "model.onnx", "--model", "nowhere"], "model: nowhere: no sha256.json, so it is no model"),
    ],
)
def test_bad_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words]) == 2
    assert capsys.readouterr().err == f"oapseg export: {said}\n"


def test_a_file_that_is_no_graph_of_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such graph; write it with `oapseg export`"):
        OnnxModel(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"m\.onnx: no graph of `oapseg export`"):
        OnnxModel(tmp_path / "m.onnx")
