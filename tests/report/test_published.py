"""Published figures: of their own benchmark alone, each with its source."""

from dataclasses import replace
from typing import Any

from oapseg.evaluate.scores import Score
from oapseg.params import default_params_path, load_params
from oapseg.report.page import KINDS
from oapseg.report.published import published_chapter, read_published


def scores(benchmark: str, *names: str) -> dict[str, Score]:
    said: dict[str, Any] = {"benchmark": benchmark, "protocol": "p", "split": "val", "images": 5, "score_rule": "s"}
    return {
        f"{maker}.{name}": Score(1.5, 1.0, 2.0, data="d", **said) for maker in ("generator", "model") for name in names
    }


def test_every_figure_is_of_a_benchmark_and_a_task_that_there_is() -> None:
    known = load_params(default_params_path()).benchmarks
    tasks = {"mask_": "instance", "box_": "instance", "class_": "instance"}
    tasks |= {f"{task}_": task for task in ("semantic", "panoptic", "saliency")} | {"concepts_": "semantic"}
    assert read_published()
    for benchmark, rows in read_published().items():
        for row in rows:
            for name, value in row.figures.items():
                (task,) = {task for prefix, task in tasks.items() if name.startswith(prefix)}
                assert task in known[benchmark].tasks, (benchmark, name)
                assert 0 < float(value.split()[0]) < 100
                measure = next((each for each in ("mask", "box") if f"{each}_" in name), None)
                assert measure is None or measure in known[benchmark].measures, (benchmark, name)


def test_average_precision_is_never_above_that_at_the_lowest_iou() -> None:
    for rows in read_published().values():
        for row in rows:
            for name, value in row.figures.items():
                if name.endswith("_AP") and f"{name}50" in row.figures:
                    assert float(value) < float(row.figures[f"{name}50"]), row


def test_a_benchmark_shows_its_figures_greyed_with_source_and_caveat() -> None:
    text = published_chapter(scores("coco_val2017", "mask_AP"), "oap", KINDS)
    assert (
        '<tr class="peer"><td>MaskCut <small>OAP, table 1, a generator<sup>1</sup></small></td><td>6.7</td></tr>'
        in text
    )
    assert "ProMerge measures less with the same encoder" in text
    assert "1.5 <small>1.0 to 2.0</small>" in text
    assert "U2Seg" not in text


def test_own_photos_have_no_published_figures_which_the_page_says() -> None:
    text = published_chapter(scores("val", "mask_AP"), "oap", KINDS)
    assert "none that we know of were measured on val" in text
    assert "peer" not in text


def test_our_row_says_how_clusters_got_their_classes() -> None:
    mapped = {
        flat: replace(each, mapping="hungarian+votes", fit_on="val")
        for flat, each in scores("cityscapes_panoptic", "panoptic_PQ").items()
    }
    chapter = published_chapter(mapped, "oap", KINDS)
    assert chapter.count("this run; hungarian+votes, fitted on val") == 2
    assert "this run</small>" in published_chapter(scores("coco_val2017", "mask_AP"), "oap", KINDS)
