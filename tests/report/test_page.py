"""The report: one HTML file that stands alone, with every score, curve and photo that it was given."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from report.read_page import from_outside, read_page

from oapseg.evaluate.scores import Score
from oapseg.masks import mask_to_rle
from oapseg.monitor.history import history_csv, read_history
from oapseg.report.breakdowns import breakdown_chapter, confusion_chapter
from oapseg.report.chart import columns, curves, interval_bars, precision_recall
from oapseg.report.exemplars import Cluster
from oapseg.report.page import Content, render
from oapseg.report.photos import Row, best_for_each, class_maps, extremes, ranked_apart, side_by_side, spread

INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2


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
BENCHMARK = {"class_names": {"1": "dog", "2": "<cat>"}}
CURVE = [0.8] * 31 + [0.0] * 70
CROWDING = [
    {"fewest": 1, "most": 1, "photos": 4, "AP50": INTERVAL, "AR100": INTERVAL},
    {"fewest": 16, "most": None, "photos": 2, "AP50": INTERVAL, "AR100": {"value": None, "low": None, "high": None}},
]
MAKER = {
    "measure": "mask",
    "precision_recall": {"0.50": CURVE, "0.75": [None] * 101, "0.50:0.95": CURVE},
    "crowding": CROWDING,
    "mapping": {"instance": {"12": 2}, "semantic": {"12": 1, "13": 1}},
    "confusion": {"instance": {"classes": [1, 2], "cells": [[0, 0, 3], [0, 3, 1], [1, 0, 4]]}},
}
SCORED_BY = {"seed": 0, "evaluate": {"stuff_px": 4096, "text": {"weights": None, "templates": ["<a {}>", "b"]}}}
DETAILS = {"benchmark": BENCHMARK, "scored_by": SCORED_BY, "makers": {"generator": MAKER, "model": MAKER}}
NOTHING = Content(scores(), DETAILS | {"makers": {}}, {}, {}, [], "m")


def page() -> str:
    panels = side_by_side(picture(), [result(block(0, 40))], [result(block(0, 30))], [result(block(0, 40))], 50_000)
    clusters = [Cluster(12, None, 3, ["AAAA"]), Cluster(13, 'a "dog"', 1, ["AAAA"])]
    photos = {"Best": [Row("photo & co.jpg", "1 of 1 found", panels)]}
    return render("A <report>", Content(scores(), DETAILS, HISTORIES, photos, clusters, "work/finetune/model"))


def test_the_page_is_whole_and_escaped() -> None:
    assert read_page(page()).open == []
    for text in ("A &lt;report&gt;", "photo &amp; co.jpg", "&lt;cat&gt;", "a &quot;dog&quot;"):
        assert text in page()


def test_the_page_needs_nothing_from_outside() -> None:
    assert from_outside(page()) == []


def test_scores_stand_with_interval_protocol_and_signed_gain() -> None:
    text = page()
    for part in ("15.5 <small>14.5 to 16.5</small>", "+5.5", "COCO &lt;all&gt;", "60 photos of &lt;val&gt;", "By size"):
        assert part in text


def test_scores_by_class_stand_with_their_mapping() -> None:
    by_class = {"model.class_mask_AP50": score(7.0, mapping="votes", fit_on="val", mapped_clusters=3)}
    text = render("r", replace(NOTHING, scores=scores() | by_class))
    assert "votes, fitted on val; 3 clusters have a class" in text


def test_a_mapping_that_is_made_anew_in_each_run_has_no_number_of_clusters() -> None:
    named = {"generator.concepts_kmeans_mean_accuracy": score(7.0, mapping="hungarian", fit_on="val", runs=10)}
    text = render("r", replace(NOTHING, scores=scores() | named))
    assert "<dd>hungarian, fitted on val</dd>" in text
    assert "<td>kmeans mean accuracy</td>" in text


def test_the_settings_that_were_used_stand_on_the_page() -> None:
    text = page()
    assert "<dt>stuff_px</dt><dd>4096</dd>" in text
    assert "<dt>text</dt><dd>weights: none, templates: &lt;a {}&gt;, b</dd>" in text


def test_every_kind_of_score_has_a_heading_and_an_unknown_one_is_shown_too() -> None:
    text = render("r", replace(NOTHING, scores=scores(("saliency_F1", "semantic_mIoU", "novel_thing"))))
    for heading in ("Saliency", "Semantic", "Other"):
        assert f'<td colspan="4">{heading}</td>' in text
    assert "<td>novel thing</td>" in text


def test_makers_stand_in_the_order_of_their_making() -> None:
    text = render("r", replace(NOTHING, scores=scores() | {"pretrained.mask_AP": score(12.0)}))
    places = [text.index(f'<th class="key {maker}">') for maker in ("generator", "pretrained", "model", "gain")]
    assert places == sorted(places)


def test_scores_by_class_stand_for_generator_pretrained_teacher_and_model() -> None:
    values = {"generator": 1.25, "pretrained": 2.25, "model": 3.25}
    by_class = {f"{maker}.class_mask_AP": score(value) for maker, value in values.items()}
    text = render("r", replace(NOTHING, scores=by_class))
    row = text[text.index(">Masks by class</td>") :].split("</tr>")[1]
    assert re.findall(r"<td>(\d\.\d) <small>", row) == ["1.2", "2.2", "3.2"]


def test_a_confusion_says_what_share_of_a_class_is_taken_for_what() -> None:
    text = confusion_chapter(DETAILS)
    assert re.findall(r"--p:([\d.]+)", text) == [
        "0.75",
        "0.00",
        "0.00",
        "0.00",
        "0.25",
        "1.00",
        "0.00",
        "0.00",
        "0.00",
        "0.00",
    ]
    assert text.count('class="right') == 2


def test_a_confusion_of_many_classes_shows_the_most_frequent_ones() -> None:
    cells = [[row, 0, 1 + row] for row in range(40)]
    maker = {"confusion": {"instance": {"classes": list(range(40)), "cells": cells}}}
    text = confusion_chapter({"benchmark": BENCHMARK, "makers": {"model": maker}})
    assert "The 16 most frequent of 40 classes" in text
    assert "39 <small>40</small>" in text
    assert "23 <small>24</small>" not in text


def test_crowding_is_drawn_by_the_things_in_a_photo_and_what_is_unknown_is_left_out() -> None:
    text = breakdown_chapter(DETAILS, scores())
    assert "1: 4, 16+: 2" in text
    assert "AP50 by things in the photo" in text
    assert "None" not in text


def test_a_cluster_has_a_field_for_its_name_its_class_and_a_command_that_saves_it() -> None:
    text = page()
    assert '<input type="text" name="12" value=""' in text
    assert "taken for &lt;cat&gt;" in text
    assert 'name="13" value="a &quot;dog&quot;"' in text
    assert "oapseg name-clusters work/finetune/model names.json" in text


def test_chapters_that_there_is_nothing_for_are_left_out() -> None:
    text = render("r", NOTHING)
    assert re.findall("<h2>(.*?)</h2>", text) == ["Scores", "Published figures"]


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


@pytest.mark.parametrize("line", [[0.0] * 101, [None] * 101, [1.0] * 101, [0.003] + [0.0] * 100, CURVE])
def test_precision_over_recall_stays_inside_its_panel(line: list[float | None]) -> None:
    svg = precision_recall("p", {"model": line})
    points = [pair.split(",") for each in re.findall(r'points="([^"]*)"', svg) for pair in each.split()]
    assert all(46 <= float(x) <= 332 and 8 <= float(y) <= 168 for x, y in points)
    assert bool(points) == any(line)


@pytest.mark.parametrize("reached", [1, 29, 38, 62, 79, 100])
def test_what_stands_below_precision_over_recall_does_not_touch(reached: int) -> None:
    svg = precision_recall("p", {"model": [0.5] * (reached + 1) + [0.0] * (100 - reached)})
    ends = []
    for kind, x, text in re.findall(r'<text class="tick ?(\w*)" x="([\d.]+)" y="185">([^<]+)<', svg):
        width = 7.5 * len(text)  # of 12.5 px letters, rather much
        start = float(x) - width * {"": 0.0, "mid": 0.5, "end": 1.0}[kind]
        ends.append((start, start + width))
    assert len(ends) >= 3
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_columns_stay_inside_their_panel() -> None:
    svg = columns("c", [("1", [("model", 3.0, 1.0, 90.0), ("generator", 0.0, None, None)]), ("16+", [])])
    assert all(
        8 <= float(y) <= 168 for y in re.findall(r'(?:c?y[12]?)="([\d.]+)"', svg.partition("16+")[0]) if y != "185"
    )


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
    assert ranked_apart(masks) == [0, 2]


def test_pictures_keep_within_their_bytes() -> None:
    panels = side_by_side(picture(), [], [], [], 3000)
    assert len(panels) == 4
    assert all(len(panel.jpeg) <= 3000 for panel in panels)
    assert "mean IoU" not in panels[1].caption


def test_masks_of_named_clusters_are_listed_with_their_colours() -> None:
    found = [result(block(0, 40), score=0.9, cluster_name="dog"), result(block(50, 90), score=0.8)]
    assert side_by_side(picture(), [], [], found, 50_000)[3].names == (("dog", "#e69f00"),)


def test_classes_keep_their_colour_from_map_to_map_and_void_has_none() -> None:
    truth = np.full((60, 90), -1)
    truth[:, :30] = 7
    labelled, found = class_maps(picture(), truth, {"model": np.full((60, 90), 7)}, {7: "sky"}, 50_000)
    assert labelled.names == found.names == (("sky", "#e69f00"),)
    assert labelled.jpeg != found.jpeg


def test_the_best_the_middling_and_the_worst_are_no_photo_twice() -> None:
    values = {1: 0.9, 2: None, 3: 0.1, 4: 0.5, 5: 0.6, 6: 0.5, 7: 0.0}
    assert extremes(values, 2) == {"best": [1, 5], "median": [4, 6], "worst": [3, 7]}
    assert extremes(values, 9) == extremes(values, 2)
    assert extremes({}, 3) == {"best": [], "median": [], "worst": []}


def test_photos_are_spread_over_the_whole_set() -> None:
    assert spread(3, 9) == [0, 3, 6]
    assert spread(5, 2) == [0, 1]
    assert spread(0, 2) == []
