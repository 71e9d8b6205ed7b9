"""The report with the most of everything that its parameters and a benchmark allow."""

import pytest
import yaml
from report.read_page import from_outside, read_page
from report.test_page import DETAILS, MAKER, score

from components.report import EXEMPLAR_SHARE, MAX_PAGE_BYTES, PANELS, PHOTO_SHARE
from oapseg.params import default_params_path, parse_params
from oapseg.report.exemplars import Cluster
from oapseg.report.page import Content, render
from oapseg.report.photos import RANKED_SHOWN, Panel, Row

MOST = {"photos": 60, "extremes": 12, "clusters": 100, "exemplars": 8}
LONGEST = "&" * 60  # a name that is longest as HTML


@pytest.mark.parametrize("key", MOST)
def test_more_than_the_page_can_hold_is_refused(key: str) -> None:
    params = yaml.safe_load(default_params_path().read_text())
    params["report"] |= MOST
    parse_params(params)
    params["report"][key] += 1
    with pytest.raises(ValueError, match=rf"report\.{key}: .* less than or equal to {MOST[key]}"):
        parse_params(params)


def test_the_fullest_page_stays_below_its_limit() -> None:
    photos = MOST["photos"] + 3 * MOST["extremes"]
    picture = "A" * int(MAX_PAGE_BYTES * PHOTO_SHARE / (PANELS * photos))
    exemplar = "A" * int(MAX_PAGE_BYTES * EXEMPLAR_SHARE / (MOST["clusters"] * MOST["exemplars"]))
    names = ((LONGEST, "#000000"),) * RANKED_SHOWN
    panels = (*(Panel(picture, LONGEST) for _ in range(PANELS - 1)), Panel(picture, LONGEST, names))
    clusters = [Cluster(number, LONGEST, 10**6, [exemplar] * MOST["exemplars"]) for number in range(MOST["clusters"])]
    classes = list(range(1203))  # LVIS
    cells = [[row, (row * each) % 1205, each] for row in classes for each in range(1, 40)]
    maker = MAKER | {
        "mapping": {"instance": {str(number): number for number in classes}},
        "confusion": {kind: {"classes": classes, "cells": cells} for kind in ("instance", "semantic")},
    }
    details = DETAILS | {
        "benchmark": {"class_names": {str(number): LONGEST for number in classes}},
        "makers": {"generator": maker, "model": maker},
    }
    kinds = ("mask", "box", "class_mask", "class_box", "semantic", "panoptic", "saliency", "other")
    scores = {
        f"{group}.{kind}_a_rather_long_name_{number}": score(50.0)
        for group in ("generator", "pretrained", "model", "gain")
        for kind in kinds
        for number in range(20)
    }
    columns = {f"loss_{number}": [(float(step), 0.123456) for step in range(5000)] for number in range(15)}
    histories = {"pretrain": columns, "finetune": columns}
    rows = {"Best": [Row("photo" * 20, LONGEST, panels)] * photos}
    text = render("Report", Content(scores, details, histories, rows, clusters, "work/finetune/model"))
    assert read_page(text).open == []
    assert from_outside(text) == []
    assert 0.7 * MAX_PAGE_BYTES < len(text.encode()) < MAX_PAGE_BYTES
