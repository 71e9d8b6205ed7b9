"""How well measures without labels follow the truth: their rank correlation with AP50 and AR100, and a plot of it.

    python benchmarks/label_free.py --leaderboard sample=OUT/leaderboard.csv coco=OTHER/leaderboard.csv
    python benchmarks/label_free.py --checkpoints work/shards/val work/encoder work/*/checkpoints/*
    python benchmarks/label_free.py --runs a/pretrain b/pretrain --shards work/shards/val --encoder work/encoder

Over generators: of tables that `oapseg compare --labels` wrote. Over checkpoints: of the masks that Online
Agglomerative Pooling makes from each teacher's encoder, beside those of the encoder that all began with; that is what a
step learns from. Over runs, which is what people watch: the model of each checkpoint, scored as the step evaluate
scores it, beside what the training's history said at that step; ranks are taken within each run, so that runs do not
mix. A correlation of few points is uncertain: its p-value stands beside it. Checkpoints of one run follow on each
other, and so do measures, so p is smaller than it ought to be; what is left once the step is taken out says more.
"""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

from label_free_runs import TRUTH, Runs, followed, of_runs
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from scipy.stats import spearmanr

from oapseg.encode.encoder import Encoder
from oapseg.encode.load import load_folder
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.evaluate.predict import generator_predictor
from oapseg.masks import INSTANCE
from oapseg.monitor.label_free import coverage, edge_alignment, level_agreement, outline, photo_edges
from oapseg.params import Params, default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos

ENCODER = "backbone.encoder."  # opens the names of the encoder's weights in a segmenter's
BATCH, ACROSS = 8, 5  # photos at a time; pictures in a row

Points = dict[str, dict[str, float]]  # measures and scores by generator or checkpoint


def of_leaderboard(path: Path) -> Points:
    """Generators with their label-free columns and scores."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("coverage", "edges", "levels", "instance_masks", *TRUTH)
    return {row["generator"]: {name: float(row[name]) for name in columns if row.get(name)} for row in rows}


def of_checkpoints(shards: str, encoder_folder: Path, checkpoints: list[Path], params: Params) -> Points:
    """Masks of each checkpoint's encoder, measured without labels and scored with them."""
    manifest = load_manifest(shards)
    truth = load_ground_truth(manifest)
    photos = list(Photos(manifest))
    resamples = resample_photos(len(truth["images"]), 0, params.seed)
    generator = OAP(**params.pool.oap)
    points: Points = {}
    for place in (None, *checkpoints):
        encoder = load_folder(encoder_folder)
        if place is not None:
            _take(encoder, place)
        predict = generator_predictor(encoder, generator.batch, params.predict)
        results = [result for photo in photos for each in predict([photo]) for result in each.results]
        scores = score_class_agnostic(find_overlaps(by_photo(truth, results)), resamples, params.evaluate.max_dets)
        measures = _measures(encoder, generator, [photo.image for photo in photos], params.predict.image_px)
        name = str(encoder_folder) if place is None else str(place)
        points[name] = measures | {score: 100 * scores[score].value for score in TRUTH}
        Console(stderr=True).print(name, points[name])
    return points


def _take(encoder: Encoder, checkpoint: Path) -> None:
    """The weights of a checkpoint's teacher in place of the encoder's own."""
    weights = load_file(checkpoint / "model.safetensors")
    encoder.load_state_dict(
        {name.removeprefix(ENCODER): tensor for name, tensor in weights.items() if name.startswith(ENCODER)}
    )


def _measures(encoder: Encoder, generator: OAP, images: list[Any], image_px: int) -> dict[str, float]:
    """Means over the photos."""
    found: dict[str, list[float]] = {}
    for start in range(0, len(images), BATCH):
        patches = encoder.patches(images[start : start + BATCH], image_px)
        for image, masks, seen in zip(images[start : start + BATCH], generator.batch(patches), patches, strict=True):
            edges = photo_edges(image, seen.grid)
            areas = masks.masks.flatten(1).float().mean(1)
            values = {
                "coverage": coverage(masks.masks),
                "edges": edge_alignment(masks.masks, edges),
                "outline": outline(masks.masks, edges),
                "levels": level_agreement(masks),
                "instance_masks": float((masks.kind == INSTANCE).sum()),
                "area_p50": float(areas.median()) if len(areas) else math.nan,
            }
            for name, value in values.items():
                found.setdefault(name, []).append(value)
    return {
        name: sum(value for value in values if math.isfinite(value)) / max(sum(map(math.isfinite, values)), 1)
        for name, values in found.items()
    }


def correlations(points: Points) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Spearman's rank correlation of each measure with each score: value, p, points that have both."""
    found = {}
    measures = {name for point in points.values() for name in point} - set(TRUTH)
    for measure in sorted(measures):
        for score in TRUTH:
            both = [(point[measure], point[score]) for point in points.values() if measure in point]
            if len(both) > 3 and len({value for value, _ in both}) > 1:
                result = spearmanr(*zip(*both, strict=True))
                found[measure, score] = (float(result.statistic), float(result.pvalue), len(both))
    return found


def plot(sets: dict[str, Points], path: Path) -> None:
    """A row a set: each measure against AR100, its rank correlation in the title."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = {name: correlations(points) for name, points in sets.items()}
    wide = max(len({measure for measure, _ in found}) for found in chosen.values())
    figure, axes = plt.subplots(
        len(sets), wide, figsize=(3 * wide, 2.8 * len(sets)), squeeze=False, layout="constrained"
    )
    for row, (name, points) in zip(axes, sets.items(), strict=True):
        for axis in row:
            axis.axis("off")
        for axis, measure in zip(row, sorted({measure for measure, _ in chosen[name]}), strict=False):
            axis.axis("on")
            both = [(point[measure], point["mask_AR100"]) for point in points.values() if measure in point]
            axis.scatter(*zip(*both, strict=True), s=14)
            value, p, count = chosen[name][measure, "mask_AR100"]
            axis.set_title(f"{name}: {measure}\nrho {value:.2f}, p {p:.2f}, {count} points", fontsize=8)
            axis.set_ylabel("AR100, %", fontsize=8)
            axis.tick_params(labelsize=7)
    figure.savefig(path, dpi=110)


def print_runs(runs: Runs) -> None:
    """A row a measure and score: how one follows the other, over all runs and in each."""
    table = Table("measure", "score", "rho (p)", "beyond the step", *runs, "points", title="checkpoints of trainings")
    for measure in measures_of(runs):
        for score in TRUTH:
            found = followed(runs, measure, score)
            if found is not None:
                each = [f"{found.by_run[name]:+.2f}" if name in found.by_run else "-" for name in runs]
                rho = f"{found.rho:+.2f} ({found.p:.3f})"
                beyond = "-" if math.isnan(found.beyond_step) else f"{found.beyond_step:+.2f}"
                table.add_row(measure, score, rho, beyond, *each, str(found.points))
    Console(width=max(Console().width, 130)).print(table)


def measures_of(runs: Runs) -> list[str]:
    """Those that vary, what follows AR100 best first."""
    names = {name for points in runs.values() for point in points.values() for name in point} - set(TRUTH)
    found = {name: followed(runs, name, TRUTH[1]) for name in sorted(names)}
    return sorted((name for name, each in found.items() if each), key=lambda name: -abs(found[name].rho))  # type: ignore[union-attr]


def plot_runs(runs: Runs, path: Path) -> None:
    """A picture a measure: AR100 against it, a colour a run, its checkpoints joined in their order."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    measures = measures_of(runs)
    rows = math.ceil(len(measures) / ACROSS)
    figure, axes = plt.subplots(rows, ACROSS, figsize=(3.2 * ACROSS, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(measures) :]:
        axis.axis("off")
    for axis, measure in zip(axes.flat, measures, strict=False):
        for name, points in runs.items():
            both = [(each[measure], each[TRUTH[1]]) for each in points.values() if measure in each]
            axis.plot(*zip(*both, strict=True), marker="o", markersize=3, linewidth=0.7, label=name)
        found = [followed(runs, measure, score) for score in TRUTH]
        said = ", ".join(f"{score[5:]} {each.rho:+.2f}" for score, each in zip(TRUTH, found, strict=True) if each)
        axis.set_title(f"{measure}\nrho {said}", fontsize=8)
        axis.set_ylabel("AR100, %", fontsize=7)
        axis.tick_params(labelsize=7)
    axes.flat[0].legend(fontsize=6)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaderboard", nargs="+", default=[], metavar="NAME=CSV", help="tables of `oapseg compare`")
    parser.add_argument("--checkpoints", nargs="+", default=[], metavar="PATH", help="shards, encoder, checkpoints ...")
    parser.add_argument(
        "--runs", nargs="+", default=[], type=Path, metavar="FOLDER", help="history.jsonl, checkpoints/"
    )
    parser.add_argument("--shards", help="labelled shards for --runs")
    parser.add_argument("--encoder", type=Path, help="the encoder that the runs began with")
    parser.add_argument("--photos", type=int, default=0, help="of --runs: so many, spread over the shards; 0: all")
    parser.add_argument(
        "--windows", type=int, choices=range(1, 9), help="of --runs: 1 looks at whole photos alone, five times faster"
    )
    parser.add_argument("--params", default=str(default_params_path()))
    parser.add_argument("--out", type=Path, default=Path("label_free.png"), help="where the plot goes")
    args = parser.parse_args()
    sets = {}
    for given in args.leaderboard:
        name, _, path = given.partition("=")
        sets[f"generators, {name}"] = of_leaderboard(Path(path))
    if args.checkpoints:
        shards, encoder, *checkpoints = args.checkpoints
        sets["checkpoints"] = of_checkpoints(
            shards, Path(encoder), [Path(each) for each in checkpoints], load_params(args.params)
        )
    for name, points in sets.items():
        table = Table("measure", *(f"{score}: rho (p)" for score in TRUTH), "points", title=name)
        found = correlations(points)
        for measure in sorted({measure for measure, _ in found}):
            cells = [f"{found[measure, score][0]:+.2f} ({found[measure, score][1]:.2f})" for score in TRUTH]
            table.add_row(measure, *cells, str(found[measure, TRUTH[0]][2]))
        Console().print(table)
    if sets:
        plot(sets, args.out)
        print(f"Written: {args.out}")
    if args.runs:
        if args.shards is None or args.encoder is None:
            parser.error("--runs needs --shards and --encoder")
        params = load_params(args.params)
        if args.windows is not None:
            predict = params.predict.model_copy(update={"windows": args.windows})
            params = params.model_copy(update={"predict": predict})
        runs = of_runs(args.runs, args.shards, args.encoder, params, args.photos)
        picture = args.out.with_stem(f"{args.out.stem}_runs")
        picture.with_suffix(".json").write_text(json.dumps(runs, indent=1) + "\n")
        if not measures_of(runs):
            raise ValueError("--runs: fewer than four checkpoints whose measures differ: nothing to correlate")
        print_runs(runs)
        plot_runs(runs, picture)
        print(f"Written: {picture} and its points, {picture.with_suffix('.json').name}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        raise SystemExit(f"label_free: {error}") from None
