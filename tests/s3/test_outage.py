"""Sharding, training, predicting and scoring beside a server that is gone for half a minute: the same comes out."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from proxy import Outage, Proxy

import components.__main__
from oapseg import storage
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.params import SampleParams
from oapseg.shards.sample import make_sample
from oapseg.storage import connection

OUTAGE_S = 30
SMALL = {
    "model": {
        "interactions": 2,
        "width": 32,
        "ffn": 32,
        "heads": 2,
        "pixel_layers": 1,
        "decoder_layers": 2,
        "stem": 16,
    },
    "pretrain": {"steps": 6, "batch": 2, "image_px": 64, "local_px": 32, "warmup_steps": 2, "workers": 0},
    "predict": {"image_px": 64, "window_px": 32, "batch": 2},
    "evaluate": {"bootstrap": 5},
    "shards": {"samples_per_shard": 8, "workers": 1},
}


def run(*words: object) -> None:
    assert components.__main__.main([str(word) for word in words]) == 0


def hashes(folder: str | Path) -> dict[str, str]:
    """Contents by name; histories hold seconds, which differ."""
    read = {name: storage.read_bytes(storage.join(folder, name)) for name in storage.list_files(folder)}
    return {name: hashlib.sha256(data).hexdigest() for name, data in read.items() if not name.endswith(".jsonl")}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, an encoder and small parameters."""
    folder = tmp_path_factory.mktemp("work")
    make_sample(str(folder / "sample"), SampleParams(train=24, val=8, size_px=96), seed=0, workers=1)
    save_folder(own_encoder(width=32, depth=2, heads=2, patch_px=8, image_px=64), folder / "encoder", notes={})
    params = yaml.safe_load(Path("params.yaml").read_text())
    for section, values in SMALL.items():
        params[section].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.fixture
def beside_an_outage(network: Proxy) -> Callable[..., None]:
    """Runs a step that meets an outage on its way; it takes longer than that, so it was waited for."""

    def run_beside(outage: Outage, *words: object) -> None:
        connection.forget()
        network.faults.append(outage)
        met, started = network.met, time.monotonic()
        run(*words)
        assert network.met == met + 1
        assert time.monotonic() - started > OUTAGE_S

    return run_beside


def test_each_step_makes_beside_an_outage_what_it_makes_without(
    work: Path, bucket: str, beside_an_outage: Callable[..., None]
) -> None:
    def words(step: str, out: str | Path, *options: object) -> list[object]:
        return [*step.split(), *options, "--out", out, "--params", work / "params.yaml"]

    def shard(name: str, out: str | Path) -> list[object]:
        return words(f"shard {name}", out, "--root", work / "sample")

    def pretrain(shards: str | Path, out: Path) -> list[object]:
        return words("pretrain", out, "--shards", shards, "--encoder", work / "encoder")

    def predict(shards: str | Path, out: str | Path) -> list[object]:
        model = ["--model", "model", work / "quiet-pretrain/model"]
        return words("predict", out, "--shards", shards, "--encoder", work / "encoder", *model)

    def evaluate(shards: str | Path, predictions: str | Path, out: Path) -> list[object]:
        return words("evaluate", out, "--shards", shards, "--predictions", predictions)

    for name in ("pretrain", "val"):
        run(*shard(name, work / name))
    run(*pretrain(work / "pretrain", work / "quiet-pretrain"))
    run(*predict(work / "val", work / "quiet-predict"))
    run(*evaluate(work / "val", work / "quiet-predict", work / "quiet-evaluate"))

    beside_an_outage(Outage(30_000, OUTAGE_S, of_requests=True), *shard("pretrain", f"{bucket}/pretrain"))
    assert hashes(f"{bucket}/pretrain") == hashes(work / "pretrain")
    run(*shard("val", f"{bucket}/val"))
    beside_an_outage(Outage(30_000, OUTAGE_S), *pretrain(f"{bucket}/pretrain", work / "pretrained"))
    assert hashes(work / "pretrained") == hashes(work / "quiet-pretrain")
    beside_an_outage(Outage(20_000, OUTAGE_S), *predict(f"{bucket}/val", f"{bucket}/predict"))
    assert hashes(f"{bucket}/predict") == hashes(work / "quiet-predict")
    beside_an_outage(Outage(5_000, OUTAGE_S), *evaluate(f"{bucket}/val", f"{bucket}/predict", work / "evaluated"))
    assert hashes(work / "evaluated") == hashes(work / "quiet-evaluate")
