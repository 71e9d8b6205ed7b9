"""`oapseg predict` by an alias of a real registry: what is champion when it starts is what it uses, and says so."""

import json
from pathlib import Path

import pytest
from registry.cards import COMPLETE
from use.small import predict, small_model, small_params, write_photos

from oapseg import storage
from oapseg.checkpoint.export import HASHES
from oapseg.cli import main
from oapseg.params import GateParams
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.promote import promote
from oapseg.registry.register import register
from oapseg.registry.server import DEPRECATED_IN_MLFLOW, Place

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")]
OPEN = GateParams.model_validate({"benchmarks": {}, "licences": None})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A registry of two versions, the second one champion after the first."""
    made = Place("oapseg", f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "promotions"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.tracking_uri)
    monkeypatch.setenv("OAPSEG_JOURNAL", made.journal)
    for seed in (1, 2):
        folder = small_model(tmp_path / f"model-{seed}", seed)
        tags = {SEAL_TAG: storage.sha256(folder / HASHES)}
        register(
            made.name,
            made.tracking_uri,
            artifacts={"model": folder},
            content=str(seed),
            card=COMPLETE,
            metrics={},
            tags=tags,
        )
        promote(made, seed, "champion", OPEN, override="as the test wants it")
    return made


def test_after_a_roll_back_the_next_run_serves_the_version_before_and_the_index_says_which(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(str(tmp_path / "photos"))
    words = [str(tmp_path / "photos"), "--params", str(small_params(tmp_path))]
    assert predict(*words, "--out", tmp_path / "before") == 0
    assert main(["rollback", place.name, "--reason", "complaints"]) == 0
    assert predict(*words, "--out", tmp_path / "after") == 0
    said = {name: json.loads((tmp_path / name / "index.json").read_text())["model"] for name in ("before", "after")}
    for name, version in (("before", 2), ("after", 1)):
        assert (said[name]["asked"], said[name]["version"]) == ("models:/oapseg@champion", version)
        assert said[name]["sha256"] == storage.sha256(tmp_path / f"model-{version}" / HASHES)
        alone = tmp_path / f"alone-{version}"
        assert predict(*words, "--model", tmp_path / f"model-{version}", "--out", alone) == 0
        assert (alone / "masks.json").read_bytes() == (tmp_path / name / "masks.json").read_bytes()
    assert (tmp_path / "alone-1" / "masks.json").read_bytes() != (tmp_path / "alone-2" / "masks.json").read_bytes()
    capsys.readouterr()
    assert predict(*words, "--out", tmp_path / "before") == 2
    error = capsys.readouterr().err
    assert "model.location models:/oapseg/2 and not models:/oapseg/1" in error
    assert error.count("\n") == 1
