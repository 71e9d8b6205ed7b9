"""Photos to masks by a promoted model: COCO results or panoptic pictures, overlays, and a gallery to look at.

A run that was killed goes on where it was when the same command is given again.
"""

import argparse
import time
from dataclasses import asdict, replace

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from oapseg import __version__
from oapseg.evaluate.predict import choose_device
from oapseg.params import Params, load_params
from oapseg.progress import Progress
from oapseg.shards.listing import written_name
from oapseg.use.folder import OutFolder
from oapseg.use.photos import find_photos
from oapseg.use.predict import How, finish, predict_photos
from oapseg.use.resolved import CHAMPION, load, resolve
from oapseg.use.tasks import TASKS, Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="photos, folders, s3:// prefixes, or the folder of a set of shards"
    )
    parser.add_argument(
        "--model", default=CHAMPION, help="folder, s3:// URL, or models:/NAME@ALIAS (default: %(default)s)"
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="what is written (default: %(default)s)")
    parser.add_argument("--out", required=True, help="folder or s3:// prefix")
    parser.add_argument("--level", type=float, help="from 0 (parts) to 1 (wholes); default: as the model was measured")
    parser.add_argument(
        "--min-score", type=float, help="of an instance mask; default: 0, of a panoptic layout evaluate.panoptic_score"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew where --out holds predictions that are whole, or of another run",
    )


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    how = _how(args, params)
    source = find_photos(args.photos, args.out, params.shards.max_pixels)
    resolved = resolve(args.model, params)
    device = choose_device(params.predict.device)
    model = load(resolved, params, device.type)
    if args.level is not None:
        model = replace(model, look=replace(model.look, level=args.level))
    decided = {
        "model": {"location": resolved.location, "sha256": resolved.sha256},
        "task": args.task,
        "look": asdict(model.look),
        "layout": asdict(how.layout),
        "photos": {"count": len(source), "sha256": source.stamp},
        "batch": how.batch,
        "precision": how.precision,
        "device": device.type,
        "oapseg": __version__,
    }
    folder = OutFolder(args.out, {"decided": decided, "model": resolved.as_json()}, overwrite=args.overwrite)
    began = time.monotonic()
    rate = TextColumn("{task.fields[rate]:.2f} photos/s")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    if not folder.finished:
        with Progress(*columns) as progress:
            bar = progress.add_task("masks", total=len(source), rate=0.0)
            for place, done in enumerate(predict_photos(source, model, how, folder)):
                if place == 0:
                    progress.reset(bar, completed=done)  # what was there already is no speed of this run
                else:
                    progress.update(bar, completed=done, rate=place / (time.monotonic() - began))
    took_s = time.monotonic() - began
    said = f"Model {resolved.location}, task {args.task}"
    said += f", level {model.look.level:g} from 0 (parts) to 1 (wholes)." if model.look.level is not None else "."
    lines = finish(folder, source, model.names, how, f"Predictions: {_title(args.photos)}", said)
    print("\n".join([*lines, f"{said} Written in {took_s:.1f} s to {args.out}: index.html, overlays/ and the results"]))


def _how(args: argparse.Namespace, params: Params) -> How:
    """Errors: `ValueError` naming an option that is out of range or says nothing of the task."""
    for name, value in (("--level", args.level), ("--min-score", args.min_score)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: must be from 0 to 1, is {value:g}")
        if value is not None and args.task == "semantic":
            raise ValueError(f"{name}: is of instance masks; the task semantic is a map of clusters and has none")
    scores = params.evaluate
    min_score = args.min_score
    if min_score is None:
        min_score = scores.panoptic_score if args.task == "panoptic" else 0.0
    layout = Layout(min_score, scores.panoptic_overlap, scores.stuff_px)
    return How(args.task, layout, params.predict.batch, params.predict.precision)


def _title(places: list[str]) -> str:
    """What the photos are called together."""
    first = places[0].rstrip("/").rpartition("/")[2] or places[0]
    return written_name(first) + (f" and {len(places) - 1} more" if len(places) > 1 else "")
