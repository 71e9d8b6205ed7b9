"""The report: one HTML file that stands alone, with every score, curve and photo that it was given."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from oapseg.evaluate.scores import Score
from oapseg.masks import mask_to_rle
from oapseg.report.chart import curves, interval_bars
from oapseg.report.history import history_csv, read_history
from oapseg.report.page import render
from oapseg.report.photos import best_for_each, ranked_apart, side_by_side, spread

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Balanced(HTMLParser):
    """Reads a page and fails on a tag that is never closed; gathers attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID or tag == "polyline":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def score(value: float, **more: Any) -> Score:
    return Score(value, value - 1, value + 1, "<val>", "COCO <all>", "val", 60, "ones", "da7a", **more)


def scores(
    names: tuple[str, ...] = ("mask_AP", "mask_AP50", "mask_AR100", "box_AP", "mask_AP_small"),
) -> dict[str, Score]:
    found = {f"generator.{name}": score(10.0, generator="oap") for name in names}
    found |= {f"model.{name}": score(15.5) for name in names}
    return found | {f"gain.{name}": score(5.5, generator="oap") for name in names}


def picture() -> torch.Tensor:
    return torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def block(left: int, right: int) -> torch.Tensor:
    mask = torch.zeros(60, 90, dtype=torch.bool)
    mask[:, left:right] = True
    return mask


def result(mask: torch.Tensor, **more: Any) -> dict[str, Any]:
    return {"segmentation": mask_to_rle(mask), "iscrowd": 0, "score": 1.0, **more}


HISTORIES = {"pretrain": {"loss": [(10.0, 3.0), (20.0, 2.0)], "lr": [(10.0, 1e-4)]}, "finetune": {"loss": [(5.0, 1.0)]}}


def page() -> str:
    panels = side_by_side(picture(), [result(block(0, 40))], [result(block(0, 30))], [result(block(0, 40))], 50_000)
    return render("A <report>", scores(), HISTORIES, [("photo & co.jpg", panels)])


def test_the_page_is_whole_and_escaped() -> None:
    parser = Balanced()
    parser.feed(page())
    assert parser.open == []
    assert "A &lt;report&gt;" in page()
    assert "photo &amp; co.jpg" in page()


def test_the_page_needs_nothing_from_outside_and_runs_no_script() -> None:
    text = page()
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    parser = Balanced()
    parser.feed(text)
    assert all(
        value.startswith("data:image/jpeg;base64,") for name, value in parser.attributes if name in ("src", "href")
    )


def test_scores_stand_with_interval_protocol_and_signed_gain() -> None:
    text = page()
    for part in ("15.5 <small>14.5 to 16.5</small>", "+5.5", "COCO &lt;all&gt;", "60 photos of &lt;val&gt;", "By size"):
        assert part in text


def test_scores_by_class_stand_with_their_mapping() -> None:
    by_class = {"model.class_mask_AP50": score(7.0, mapping="votes", fit_on="val", mapped_clusters=3)}
    text = render("r", scores() | by_class, {}, [])
    assert "votes, fitted on val; 3 clusters have a class" in text


def test_without_photos_and_histories_their_chapters_are_left_out() -> None:
    text = render("r", scores(), {}, [])
    assert "<h2>Photos" not in text
    assert "<h2>Learning" not in text


def test_a_history_keeps_the_later_line_of_a_step_and_becomes_a_table(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "lr": 0.5}, {"step": 2, "loss": 1.5, "lr": 0.5}]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = read_history(tmp_path)
    assert columns == {"loss": [(1, 3.0), (2, 1.5)], "lr": [(2, 0.5)]}
    assert history_csv(columns) == "step,loss,lr\n1,3.0,\n2,1.5,0.5\n"


@pytest.mark.parametrize("text", ["{", "[1]", '{"loss": 1}'])
def test_a_damaged_history_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n' + text)
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2: not an object with a step"):
        read_history(tmp_path)


def test_a_missing_history_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"history\.jsonl: cannot be read"):
        read_history(tmp_path)


@pytest.mark.parametrize(
    "column",
    [
        [(1.0, 5.0)],
        [(1.0, 0.0), (2.0, 0.0)],
        [(float(step), 1e-7 * step) for step in range(2000)],
        [(1.0, float("nan"))],
    ],
)
def test_a_curve_stays_inside_its_panel(column: list[tuple[float, float]]) -> None:
    svg = curves("loss", {"run": column})
    points = [pair.split(",") for line in re.findall(r'points="([^"]*)"', svg) for pair in line.split()]
    assert len(points) <= 160
    assert all(46 <= float(x) <= 332 and 8 <= float(y) <= 168 for x, y in points)


def test_interval_bars_stay_on_their_axis() -> None:
    svg = interval_bars([("generator", 0.0, 0.0, 1.0), ("model", 20.0, 10.0, 20.0)], 20.0)
    assert all(4 <= float(x) <= 216 for x in re.findall(r'(?:c?x[12]?)="([\d.]+)"', svg))


def test_each_annotation_gets_its_best_mask_or_none() -> None:
    truth = torch.stack([block(0, 40), block(60, 90)])
    masks, overlaps = best_for_each(truth, torch.stack([block(0, 10), block(0, 30)]))
    assert torch.equal(masks, torch.stack([block(0, 30), block(0, 0)]))
    assert overlaps.tolist() == [0.75, 0.0]


def test_masks_mostly_under_better_ones_are_passed_over() -> None:
    masks = torch.stack([block(0, 40), block(10, 50), block(35, 60)])
    assert torch.equal(ranked_apart(masks), masks[[0, 2]])


def test_pictures_keep_within_their_bytes() -> None:
    panels = side_by_side(picture(), [], [], [], 3000)
    assert len(panels) == 4
    assert all(len(panel.jpeg) <= 3000 for panel in panels)
    assert panels[1].mean_iou is None


def test_photos_are_spread_over_the_whole_set() -> None:
    assert spread(3, 9) == [0, 3, 6]
    assert spread(5, 2) == [0, 1]
    assert spread(0, 2) == []
