"""The registry as a cluster has it: MLflow's server over HTTP, artifacts and journal in a real S3 server."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ceph
import pytest
import torch
from e2e.services import mlflow_server
from registry.versions import write_scores
from serve.serving import running, until
from use.small import photo_bytes, predict, small_model, small_params, write_photos

import components.__main__
import oapseg
from oapseg import storage
from oapseg.checkpoint.export import HASHES, WEIGHTS
from oapseg.cli import main
from oapseg.params import SampleParams, Source, default_params_path
from oapseg.registry.evidence import METRICS
from oapseg.registry.journal import Journal
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set
from oapseg.storage import connection

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]
PERCENT = {1: 20.0, 2: 30.0, 3: 10.0}  # mask AP50 of each version
LOOK = {"image_px": 64, "window_px": 64, "windows": 1, "max_masks": 20}
PHOTO = photo_bytes(48, 72, 0)


class Site(NamedTuple):
    """A registry's server, a bucket, and a folder for what lies on this machine alone."""

    address: str
    kept: str  # where the server keeps artifacts
    bucket: str
    folder: Path


@pytest.fixture(scope="module")
def site(server: ceph.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three versions, the photos, the scores and the journal all in S3; the environment says where."""
    folder, name = tmp_path_factory.mktemp("site"), f"registry-{uuid.uuid4().hex[:8]}"
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with pytest.MonkeyPatch.context() as patch, mlflow_server(folder, server.environment | quiet, name) as address:
        bucket = ceph.make_bucket(server, f"{name}-work")
        said = {"MLFLOW_TRACKING_URI": address, "OAPSEG_JOURNAL": f"{bucket}/promotions", "OAPSEG_WHO": "test"}
        for key, value in (server.environment | said | {"OAPSEG_GIT_COMMIT": "c0ffee" * 6}).items():
            patch.setenv(key, value)
        connection.forget()
        made = Site(address, f"s3://{name}/mlflow", bucket, folder)
        write_photos(f"{bucket}/photos")
        small_params(folder, **LOOK)
        _shards(folder, f"{bucket}/shards/val")
        for version in PERCENT:
            small_model(folder / f"model-{version}", version)
            assert register(made, version) == 0
        yield made
    connection.forget()


def _shards(folder: Path, out: str) -> None:
    few = SampleParams(train=1, val=2, size_px=64)
    make_sample(folder / "sample", few, seed=0, workers=1)
    listed = [list_source(Source(kind="photos", path="."), str(folder / "sample" / "images" / "val"))]
    write_set(listed, out, samples_per_shard=4, max_broken=0.0, max_pixels=10**8, workers=1)


def register(site: Site, version: int) -> int:
    """The step register, its scores and shards read from S3."""
    model = site.folder / f"model-{version}-trained"
    write_scores(scores_of(site, version).parent, PERCENT[version], model)
    scores = f"{site.bucket}/evaluate/{version}"
    for path in scores_of(site, version).parent.iterdir():
        storage.upload(path, f"{scores}/{path.name}")
    (site.folder / "report").mkdir(exist_ok=True)
    (site.folder / "report" / "index.html").write_text("<p>scores</p>")
    words = ["--params", site.folder / "params.yaml", "--model", model]
    words += ["--evaluate", scores, "--shards", f"{site.bucket}/shards/val", "--report", site.folder / "report"]
    return components.__main__.main(["register", *map(str, words), "--out", str(site.folder / f"register-{version}")])


def scores_of(site: Site, version: int) -> Path:
    return site.folder / f"val-{version}" / METRICS


def local(site: Site, version: int) -> Path:
    """The model's files as they were registered."""
    return site.folder / f"register-{version}" / "model"


def masks_of(location: str | Path) -> list[torch.Tensor]:
    (masks,) = oapseg.load(location, device="cpu")([torch.arange(48 * 72 * 3).view(48, 72, 3).byte()])
    return [masks.masks, masks.scores]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_model_in_a_bucket_is_the_model_of_the_folder_and_no_other_bytes_are_taken_for_it(site: Site) -> None:
    url = f"{site.bucket}/models/1"
    for path in local(site, 1).iterdir():
        storage.upload(path, f"{url}/{path.name}")
    assert same(masks_of(url), masks_of(local(site, 1)))
    weights = storage.read_bytes(f"{url}/{WEIGHTS}")
    storage.write_bytes(f"{url}/{WEIGHTS}", weights[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"model\.safetensors was changed"):
        oapseg.load(url)
    with pytest.raises(ValueError, match=f"{site.bucket}/models/9.*no sha256.json"):
        oapseg.load(f"{site.bucket}/models/9")


def test_a_version_comes_back_over_http_by_its_number_and_the_same_content_is_no_new_one(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in PERCENT:
        assert same(masks_of(f"models:/oapseg/{version}"), masks_of(local(site, version)))
    assert not same(masks_of("models:/oapseg/1"), masks_of("models:/oapseg/2"))
    capsys.readouterr()
    assert register(site, 2) == 0
    assert f"oapseg version 2 already registered (models:/oapseg/2 in {site.address})" in capsys.readouterr().out


def test_what_is_promoted_is_used_at_once_and_a_worse_one_is_refused_and_a_roll_back_is_used_at_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    champion, words = "models:/oapseg@champion", ["--params", str(site.folder / "params.yaml")]
    for version in (1, 2):
        assert main(["promote", "oapseg", str(version), "--to", "champion", *words]) == 0
        assert same(masks_of(champion), masks_of(local(site, version)))
    capsys.readouterr()
    assert main(["promote", "oapseg", "3", "--to", "champion", *words]) == 2
    said = capsys.readouterr()
    assert "oapseg version 3 refused for champion" in said.err
    values = [
        f"{json.loads(scores_of(site, version).read_text())['model.mask_AP50']['value']:.2f}" for version in (3, 2)
    ]
    assert [part for part in ("max_regression", "val", "mask_AP50", *values) if part not in said.out] == []
    before = predicted(site, "before", champion)
    with running(champion, follow_s=1.0) as server:
        assert server.masks(PHOTO).said["model"]["version"] == "2"
        assert main(["rollback", "oapseg", "--reason", "complaints", *words]) == 0
        after = predicted(site, "after", champion)
        until(lambda: server.masks(PHOTO).said["model"]["version"] == "1")
    assert (before["model"]["version"], after["model"]["version"]) == (2, 1)
    for name, version in (("before", 2), ("after", 1)):
        predicted(site, f"alone-{version}", str(local(site, version)))
        alone, through = (storage.read_bytes(f"{site.bucket}/{each}/masks.json") for each in (f"alone-{version}", name))
        assert alone == through
    entries = Journal(f"{site.bucket}/promotions", "oapseg").entries()
    assert [(each.action, each.before, each.version) for each in entries] == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("rollback", 2, 1),
    ]


def predicted(site: Site, name: str, model: str) -> dict[str, dict[str, object]]:
    """`oapseg predict` from the bucket into the bucket; its index."""
    out = f"{site.bucket}/{name}"
    words = ("--params", str(site.folder / "params.yaml"), "--model", model, "--out", out)
    assert predict(f"{site.bucket}/photos", *words) == 0
    index: dict[str, dict[str, object]] = json.loads(storage.read_bytes(f"{out}/index.json"))
    return index


def test_a_registered_file_that_was_changed_in_the_bucket_is_neither_loaded_nor_promoted(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = storage.sha256(local(site, 3) / WEIGHTS)
    (path,) = (
        f"{site.kept}/{name}"
        for name in storage.list_files(site.kept)
        if name.endswith(WEIGHTS) and storage.sha256(f"{site.kept}/{name}") == weights
    )
    whole = storage.read_bytes(path)
    storage.write_bytes(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"model\.safetensors was changed .*should be {weights}"):
        oapseg.load("models:/oapseg/3")
    words = ["--params", str(default_params_path())]
    assert main(["promote", "oapseg", "3", "--to", "candidate", *words]) == 2
    assert "model.safetensors was changed" in capsys.readouterr().err
    storage.write_bytes(path, whole)
    seal = path.replace(WEIGHTS, HASHES)
    files = json.loads(storage.read_bytes(seal)) | {WEIGHTS: "0" * 64}
    kept = storage.read_bytes(seal)
    storage.write_bytes(seal, json.dumps(files).encode())
    with pytest.raises(ValueError, match=r"was changed"):
        oapseg.load("models:/oapseg/3")
    storage.write_bytes(seal, kept)
    assert oapseg.load("models:/oapseg/3", device="cpu").card is not None
