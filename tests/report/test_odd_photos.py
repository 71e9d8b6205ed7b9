"""Photos of odd sizes and contents through every generator, by `oapseg masks` and `oapseg compare`: masks, no crash."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from oapseg.cli import main
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import save_folder
from oapseg.evaluate import compare as comparing
from oapseg.evaluate.probe import Probed
from oapseg.params import default_params_path
from oapseg.pool import GENERATORS
from oapseg.pool.concept_generator import ConceptGenerator, Size, save_generator

SIZES = {
    "black.jpg": (96, 64),
    "large.jpg": (5000, 3000),
    "line.png": (500, 1),
    "many.png": (160, 120),
    "noise.png": (90, 70),
}


def photo(name: str) -> Image.Image:
    width, height = SIZES[name]
    if name == "noise.png":
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    if name == "many.png":
        for number in range(40):
            left, top = 20 * (number % 8) + 2, 24 * (number // 8) + 2
            draw.ellipse((left, top, left + 14, top + 16), fill=(60 + 5 * number % 190, 250 - 5 * number, 99))
    elif name != "black.jpg":
        draw.rectangle((width // 4, 0, width // 2, height), fill=(200, 90, 30))
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "photos").mkdir()
    for name in SIZES:
        photo(name).save(folder / "photos" / name)
    torch.manual_seed(0)
    save_folder(own_encoder(width=24, depth=2, heads=3, patch_px=8, image_px=64), folder / "encoder", notes={})
    size = Size(channels=24, prototypes=3, updates=1, heads=2, ffn=16)
    save_generator(ConceptGenerator(size), folder / "acg.safetensors")
    raw: dict[str, Any] = yaml.safe_load(default_params_path().read_text())
    raw["encode"] = {"name": "own", "weights": str(folder / "encoder")}
    raw["predict"] |= {"image_px": 96, "window_px": 64, "batch": 2, "device": "cpu"}
    raw["pool"]["acseg"]["weights"] = str(folder / "acg.safetensors")
    raw["compare"]["photos"] = 5
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    return folder


@pytest.mark.slow
def test_compare_has_a_row_for_every_generator_and_none_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "probe_set", lambda *_: Probed(None))
    words = ["compare", str(folder / "photos"), "--out", str(tmp_path), "--params", str(folder / "params.yaml")]
    assert main(words) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert sorted(row["generator"] for row in rows) == sorted(GENERATORS)
    for row in rows:
        assert (row["failure"], row["photos"], row["photos_failed"]) == ("", "5", "0"), row["generator"]
        results = json.loads((tmp_path / "masks" / row["generator"] / "part-000000.json").read_text())
        heights = {tuple(each["segmentation"]["size"]) for each in results}
        assert heights <= {(height, width) for width, height in SIZES.values()}
    page = (tmp_path / "index.html").stat().st_size
    assert 0 < page < 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_masks_of_odd_photos_are_drawn_and_written(name: str, folder: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["predict"]["generator"] = name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["masks", str(folder / "photos"), "--out", str(tmp_path / "out"), "--params", str(tmp_path / "params.yaml")]
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        name if name.endswith(".jpg") else f"{name}.jpg" for name in SIZES
    ]
    for each in json.loads((tmp_path / "out" / "masks.json").read_text()):
        width, height = SIZES[each["file_name"]]
        assert each["segmentation"]["size"] == [height, width]
