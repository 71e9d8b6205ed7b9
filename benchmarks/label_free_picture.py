"""How measures without labels follow the truth, all in one picture: over checkpoints and over generators, set by set.

    python benchmarks/label_free_picture.py --checkpoints sample=label_free_runs.json coco=OTHER.json \
        --generators sample=OUT/leaderboard.csv coco=OTHER/leaderboard.csv --out docs/label_free.png

What it shows are files that others wrote: the points of `label_free.py --runs`, the tables of `oapseg compare`.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from label_free import correlations, of_leaderboard
from label_free_runs import STEP, TRUTH, followed

CERTAIN = 0.05  # of p: numbers below are bold
ALIKE = {"edges": "edge_alignment", "levels": "level_agreement", "instance_masks": "masks"}  # of generators
SCHEDULED = ("lr", "momentum", "teacher_temperature", "student_temperature")  # set, and not measured
COUNTED = re.compile(r"masks_(instance|semantic)_\d+|loss_distill|code_entropy|cluster_entropy|teacher_student_dice")
SAID = {STEP: "the step itself", "masks": "masks a photo", "loss": "loss, all of it"}

Cell = tuple[float, float]  # rank correlation and p


def of_checkpoints(path: Path) -> tuple[dict[tuple[str, str], Cell], int]:
    """By measure and score, and how many checkpoints."""
    runs = json.loads(path.read_text())
    names = {name for points in runs.values() for point in points.values() for name in point} - set(TRUTH)
    found = {}
    for name in names:
        for score in TRUTH:
            if (each := followed(runs, name, score)) is not None:
                found[name, score] = (each.rho, each.p)
    return found, sum(map(len, runs.values()))


def of_generators(path: Path) -> tuple[dict[tuple[str, str], Cell], int]:
    """The same over generators, by the names that a training gives the measures."""
    points = of_leaderboard(path)
    found = correlations(points)
    return {(ALIKE.get(name, name), score): each[:2] for (name, score), each in found.items()}, len(points)


def draw(columns: dict[str, dict[tuple[str, str], Cell]], path: Path) -> list[str]:
    """A row a measure, what follows best first; a column a set and score. The measures in that order."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = {name for found in columns.values() for name, _ in found if name not in SCHEDULED}
    names = {name for name in names if not COUNTED.fullmatch(name)}

    def strength(name: str) -> float:
        values = [abs(found[name, score][0]) for found in columns.values() for score in TRUTH if (name, score) in found]
        return sum(values) / len(values)

    ordered = sorted(names, key=lambda name: (name != STEP, -strength(name)))
    heads = [(title, score) for title in columns for score in TRUTH]
    grid = np.array(
        [[columns[title].get((name, score), (math.nan, 1.0))[0] for title, score in heads] for name in ordered]
    )
    figure, axes = plt.subplots(figsize=(2.6 + 1.15 * len(heads), 1.4 + 0.36 * len(ordered)), layout="constrained")
    image = axes.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for row, name in enumerate(ordered):
        for place, (title, score) in enumerate(heads):
            if (name, score) in columns[title]:
                rho, p = columns[title][name, score]
                style: dict[str, Any] = {
                    "color": "white" if abs(rho) > 0.6 else "black",
                    "weight": "bold" if p < CERTAIN else "normal",
                }
                axes.text(place, row, f"{rho:+.2f}", ha="center", va="center", fontsize=9, **style)
    axes.set_xticks(range(len(heads)), [f"{title}\n{score[5:]}" for title, score in heads], fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(ordered)), [SAID.get(name, name.replace("_", " ")) for name in ordered], fontsize=9)
    for edge in range(2, len(heads), 2):
        axes.axvline(edge - 0.5, color="black", linewidth=1)
    figure.colorbar(image, ax=axes, label="rank correlation; bold where p < 0.05", shrink=0.6)
    figure.savefig(path, dpi=110)
    return ordered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", default=[], metavar="NAME=JSON", help="of label_free.py --runs")
    parser.add_argument("--generators", nargs="+", default=[], metavar="NAME=CSV", help="of oapseg compare")
    parser.add_argument("--out", type=Path, default=Path("label_free.png"))
    args = parser.parse_args()
    columns = {}
    for given, kind, read in (
        (args.checkpoints, "checkpoints", of_checkpoints),
        (args.generators, "generators", of_generators),
    ):
        for name, _, path in (each.partition("=") for each in given):
            found, count = read(Path(path))
            columns[f"{name}\n{count} {kind}"] = found
    if not columns:
        parser.error("nothing to show: --checkpoints or --generators")
    for name in draw(columns, args.out):
        cells = [columns[title].get((name, score)) for title in columns for score in TRUTH]
        said = ["-" if each is None else f"{each[0]:+.2f} ({each[1]:.3f})" for each in cells]
        print(f"| {SAID.get(name, name.replace('_', ' '))} | {' | '.join(said)} |")
    print(f"Written: {args.out}")


if __name__ == "__main__":
    main()
