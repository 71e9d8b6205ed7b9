"""Two runs on the same photos: each score in pairs, with the interval of the difference, and the photos that changed.

A run is a folder with `predict/` and with `metrics.json` and `details.json` of the step evaluate, in it or in
`evaluate/`: `work` of the pipeline, or `work/field/NAME` of a benchmark. Its shards are `shards/val` or `shards` in it,
or those that `--shards` names. Everything is computed from the predictions, on the CPU.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.evaluate.paired import DRAWS, Change, Comparison, Side, check_comparable, compare
from oapseg.evaluate.runs import clustered, open_run
from oapseg.evaluate.scores import MODEL, SIZES
from oapseg.params import load_params
from oapseg.report.choose import TASKS, WITH_MASKS, Named, class_panels, look_up, numbers_of
from oapseg.report.page import plain
from oapseg.report.photos import Row, best_masks
from oapseg.report.runs_page import render_runs, summary

PICTURE_BYTES = 4_000_000  # of the page's 5 MB
PANELS = 3  # labels and both runs
MOST_PHOTOS = 40  # of each kind on the page; with more the pictures would be too small to see
SHARES = ("a", "b")
LOG_COLUMNS = 110  # of a table that goes to a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="folder of a run")
    parser.add_argument("b", metavar="B", help="folder of the run that is compared with it")
    parser.add_argument("--maker", nargs="+", default=[MODEL], help="whose masks: one name, or one of A and one of B")
    parser.add_argument("--shards", help="shards that both were scored on, where they lie elsewhere")
    parser.add_argument("--train-shards", help="shards that clusters got their classes on, where fit_on is train")
    parser.add_argument("--photos", type=int, default=8, help="photos shown that got better, and worse")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder for index.html and compare.json")


def main(args: argparse.Namespace) -> None:
    load_params(args.params)
    if len(args.maker) > 2:
        raise ValueError(f"--maker: one name or two, is {len(args.maker)}")
    if not 0 <= args.photos <= MOST_PHOTOS:
        raise ValueError(f"--photos: must be 0 to {MOST_PHOTOS}, is {args.photos}")
    runs = [open_run(folder, args.shards, args.train_shards) for folder in (args.a, args.b)]
    first, second = (Side(run, maker) for run, maker in zip(runs, (args.maker[0], args.maker[-1]), strict=True))
    check_comparable(first, second)
    titles = _titles(first, second)
    found = compare(first, second)
    photos = changed_photos(first, second, titles, found, args.photos)
    facts = [(title, _said(side)) for title, side in zip(titles, (first, second), strict=True)]
    benchmark = first.run.val.benchmark
    facts.append(("scored on", f"{benchmark.name}, {first.run.val.manifest.num_samples} photos of {benchmark.split}"))
    facts.append(("settings of the scores", plain(first.run.params.model_dump(mode="json", exclude=DRAWS))))
    storage.write_json(args.out / "compare.json", as_json(first, second, found))
    storage.write_text(args.out / "index.html", render_runs(titles, facts, found, photos))
    _print(titles, found)
    print(f"Written: index.html and compare.json in {args.out}")


def as_json(a: Side, b: Side, found: Comparison) -> dict[str, Any]:
    """All that was found as plain values: scores in percent, photos in shares."""
    return {
        "a": {"run": a.run.folder, "maker": a.maker, "checkpoint": a.run.makers[a.maker].checkpoint},
        "b": {"run": b.run.folder, "maker": b.maker, "checkpoint": b.run.makers[b.maker].checkpoint},
        "benchmark": a.run.val.benchmark.name,
        "data": a.run.val.benchmark.data,
        "scores": {
            name: asdict(each) | {"excludes_zero": each.excludes_zero} for name, each in found.differences.items()
        },
        "photos": {task: [change._asdict() for change in changes] for task, changes in found.photos.items()},
    }


def changed_photos(a: Side, b: Side, titles: tuple[str, str], found: Comparison, count: int) -> dict[str, list[Row]]:
    """Rows of the photos that got most better, then of those that got most worse: labels, then both runs."""
    task = next((task for task in TASKS if task in found.photos), None)
    if task is None or count == 0:
        return {}
    changes = found.photos[task]
    better = [change for change in changes if change.b > change.a][:count]
    worse = [change for change in reversed(changes) if change.b < change.a][:count]
    manifest, benchmark = a.run.val.manifest, a.run.val.benchmark
    numbers = numbers_of(manifest, task)
    max_bytes = PICTURE_BYTES // (PANELS * max(len(better) + len(worse), 1))
    made, named = {}, {}
    for share, side in zip(SHARES, (a, b), strict=True):
        made[share], _, kind = clustered(side.maker, side.run.val, side.run.fit, side.run.params, side.run.seed)
        mapping: Mapping[str, int] = side.run.details["makers"][side.maker]["mapping"].get("semantic", {})
        named[share] = Named(kind, {int(cluster): each for cluster, each in mapping.items()})
    shown_as = dict(zip(SHARES, titles, strict=True))
    rows: dict[str, list[Row]] = {}
    for how, chosen in ((f"Better in {titles[1]}", better), (f"Worse in {titles[1]}", worse)):
        for change, shown in zip(
            chosen, look_up(manifest, made, [numbers[each.image_id] for each in chosen]), strict=True
        ):
            if task in WITH_MASKS:
                found_by = {shown_as[share]: shown.instances(share) for share in SHARES}
                panels = best_masks(shown.image, shown.labels["instances"], found_by, max_bytes)
            else:
                panels = class_panels(shown, benchmark, named, shown_as, max_bytes)
            rows.setdefault(how, []).append(Row(shown.name, _change(change), panels))
    return rows


def _change(change: Change) -> str:
    return f"{100 * change.a:.0f} % to {100 * change.b:.0f} %"


def _titles(a: Side, b: Side) -> tuple[str, str]:
    """What tells the two: the folder's last name, the whole folder, or the maker."""
    folders = a.run.folder.rstrip("/"), b.run.folder.rstrip("/")
    if folders[0] == folders[1]:
        return (a.maker, b.maker) if a.maker != b.maker else ("A", "B")
    names = folders[0].rsplit("/", 1)[-1], folders[1].rsplit("/", 1)[-1]
    return names if names[0] != names[1] else folders


def _said(side: Side) -> str:
    maker = side.run.makers[side.maker]
    checkpoint = f"checkpoint {maker.checkpoint[:12]}" if maker.checkpoint else ""
    made_by = ", ".join(each for each in (maker.generator, checkpoint) if each)
    return f"{side.run.folder}, {side.maker} ({made_by}); {maker.said(maker.score_rule)}"


def _print(titles: tuple[str, str], found: Comparison) -> None:
    table = Table(title=f"{titles[1]} against {titles[0]}: percent, 95 % intervals", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", *titles, "difference", "interval", "leaves out 0"):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name, each in found.differences.items():
        if not name.endswith(SIZES):
            ends = "-" if each.low is None else f"{each.low:+z.1f} to {each.high:+z.1f}"
            said = ("better" if each.value > 0 else "worse") if each.excludes_zero else "-"
            table.add_row(name.replace("_", " "), f"{each.a:.1f}", f"{each.b:.1f}", f"{each.value:+z.1f}", ends, said)
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 0 if console.is_terminal else LOG_COLUMNS)
    console.print(table)
    for task, changes in found.photos.items():
        console.print(f"{task}: {summary(changes)}")
