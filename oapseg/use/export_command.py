"""A model for other runtimes: ONNX graphs, how far they agree with PyTorch, and what fewer bits cost.

Beside MODEL.onnx lies a graph for each further side that the model looks at, and MODEL.parity.json and .md. The command
fails, its files written, where a graph is further from PyTorch, or costs more AP, than `export.bounds` allows.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import UInt8
from rich.console import Console
from torch import Tensor

from oapseg import storage
from oapseg.checkpoint.model import Model
from oapseg.params import Params, load_params
from oapseg.report.photos import spread
from oapseg.shards.upright import BrokenPhoto
from oapseg.use.export_cost import Labelled, ap_of, differences, labelled, losses, percent
from oapseg.use.export_graph import META, OPSET, export_graph, sides_of
from oapseg.use.export_parity import measure_parity
from oapseg.use.export_reduced import REDUCED
from oapseg.use.onnx_model import OnnxModel
from oapseg.use.photos import find_photos
from oapseg.use.resolved import CHAMPION, Resolved, load, resolve

SUFFIX = ".onnx"
IOU, SCORE = ("mask IoU, mean", "1 % quantile"), ("score difference, mean", "99 % quantile", "largest")
COLUMNS = ("precision", "MB", "photos", *IOU, *SCORE, "other cluster", "within bounds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=CHAMPION, help="folder, s3:// URL, or models:/NAME@ALIAS (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, help="MODEL.onnx, path or s3:// URL")
    parser.add_argument(
        "--photos",
        nargs="+",
        default=[],
        metavar="PHOTOS",
        help="of the parity report; default: those of --labels, else drawn ones",
    )
    parser.add_argument(
        "--labels", metavar="SHARDS", help="labelled photos that AP is measured on; default: the embedded sample's"
    )


def main(args: argparse.Namespace) -> int:
    params = load_params(args.params)
    if not args.out.endswith(SUFFIX):
        raise ValueError(f"--out: must end in {SUFFIX}, is {args.out}")
    resolved = resolve(args.model, params)
    model = load(resolved, params, "cpu")
    given = _images(args.photos, args.out, params)
    shown, photos = photos_of(Shown(", ".join(args.photos), given) if given else None, args.labels, params)
    report = export(model, resolved, args.out, params, shown, photos)
    write_report(args.out, report)
    print(storage.read_bytes(beside(args.out, ".parity.md")).decode(), end="")
    failures = [f"{name}: {line}" for name, each in report["precisions"].items() for line in each["failures"]]
    for line in failures:
        Console(stderr=True).print(f"oapseg export: {line}", soft_wrap=True, highlight=False)
    return 1 if failures else 0


class Shown(NamedTuple):
    """Photos that parity is measured on; `place` says where they are from."""

    place: str
    images: Sequence[UInt8[Tensor, "_H _W 3"]]


def export(
    model: Model, resolved: Resolved, out: str, params: Params, shown: Shown, photos: Labelled | None
) -> dict[str, Any]:
    """Write the graphs of every precision; what was measured of them, parity on `shown` and AP on `photos`, if any."""
    chosen = params.export
    sides = sides_of(model)
    graphs = {}
    for side in sides:
        notes = {"model": resolved.location, "sha256": resolved.sha256, "others": _others(out, "fp32", side, sides)}
        graphs[side] = export_graph(model, side, chosen.sampling, notes)
    report: dict[str, Any] = {
        "model": resolved.as_json(),
        "opset": OPSET,
        "sampling": chosen.sampling,
        "sides_px": sides,
        "batch": "dynamic",
        "photos": shown.place,
        "precisions": {},
    }
    if photos is not None:
        whole = ap_of(model, photos, params.evaluate)
        report |= {"labels": photos.place, "labelled_photos": len(photos.images), "pytorch": percent(whole)}
    for precision in chosen.precisions:
        bytes_written = 0
        for side in sides:
            content = REDUCED[precision](_renamed(graphs[side], out, precision, side, sides))
            storage.write_bytes(_name(out, precision, side, sides), content)
            bytes_written += len(content)
        exported = OnnxModel(_name(out, precision, sides[0], sides))
        parity = measure_parity(model, exported, shown.images)
        bound = chosen.bounds[precision]
        said: dict[str, Any] = {"bytes": bytes_written, "parity": parity.as_json(), "failures": parity.failures(bound)}
        if photos is not None:
            reduced = ap_of(exported, photos, params.evaluate)
            said |= {"ap": percent(reduced), "difference": differences(reduced, whole)}
            said["failures"] += losses(said["difference"], bound)
        report["precisions"][precision] = said
    return report


def write_report(out: str, report: dict[str, Any]) -> None:
    """MODEL.parity.json, and the same for people."""
    storage.write_json(beside(out, ".parity.json"), report)
    lines = [
        f"# Parity of {report['model']['location']} in ONNX",
        "",
        f"Opset {report['opset']}, batch dynamic, views of {' and '.join(map(str, report['sides_px']))} px, "
        f"sampling by {report['sampling']}; against PyTorch at fp32, query by query, on photos of {report['photos']}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for name, each in report["precisions"].items():
        parity = each["parity"]
        cells = [name, f"{each['bytes'] / 1e6:.1f}", str(parity["photos"])]
        cells += [f"{parity['iou_mean']:.5f}", f"{parity['iou_p01']:.4f}"]
        cells += [f"{parity[key]:.1e}" for key in ("score_mean", "score_p99", "score_max")]
        cells += [f"{100 * parity['clusters_unlike']:.2f} %", "; ".join(each["failures"]) or "yes"]
        lines.append(f"| {' | '.join(cells)} |")
    if "pytorch" in report:
        lines += ["", *_ap_lines(report)]
    storage.write_text(beside(out, ".parity.md"), "\n".join(lines) + "\n")


def _ap_lines(report: dict[str, Any]) -> list[str]:
    """Scores of all precisions in a table, and by how much each differs from PyTorch's."""
    names, where = list(report["pytorch"]), f"{report['labelled_photos']} photos of {report['labels']}"
    whole = " | ".join(f"{value:.2f}" for value in report["pytorch"].values())
    lines = [
        f"Class-agnostic, in percent, on {where}; in brackets the difference to PyTorch and its paired 95 % interval.",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (1 + len(names)) + "|",
        f"| PyTorch | {whole} |",
    ]
    for precision, each in report["precisions"].items():
        cells = []
        for name in names:
            value, low, high = (each["difference"][name][key] for key in ("value", "low", "high"))
            interval = "" if low is None else f" [{low:+.2f} {high:+.2f}]"
            cells.append(f"{each['ap'][name]:.2f} ({value:+.2f}{interval})")
        lines.append(f"| {precision} | {' | '.join(cells)} |")
    return lines


def beside(out: str, suffix: str) -> str:
    return out.removesuffix(SUFFIX) + suffix


def _name(out: str, precision: str, side: int, sides: list[int]) -> str:
    """MODEL.onnx, MODEL.160px.onnx, MODEL.int8.onnx, MODEL.int8.160px.onnx."""
    parts = [f".{precision}"] * (precision != "fp32") + [f".{side}px"] * (side != sides[0])
    return beside(out, "".join([*parts, SUFFIX]))


def _others(out: str, precision: str, side: int, sides: list[int]) -> list[str]:
    """Names of the graphs of further sides, which that of the first side leads to."""
    return [_name(out, precision, each, sides).rpartition("/")[2] for each in sides[1:] if side == sides[0]]


def _renamed(graph: bytes, out: str, precision: str, side: int, sides: list[int]) -> bytes:
    """The graph with the names of its own precision's others in it."""
    if precision == "fp32" or side != sides[0]:
        return graph
    import onnx

    read = onnx.load_from_string(graph)
    (said,) = (each for each in read.metadata_props if each.key == META)
    others = {"others": _others(out, precision, side, sides)}
    said.value = json.dumps(json.loads(said.value) | others, sort_keys=True)
    content: bytes = read.SerializeToString(deterministic=True)
    return content


def photos_of(given: Shown | None, labels: str | None, params: Params) -> tuple[Shown, Labelled | None]:
    """Photos for parity, those with labels where none are given; and for AP, where there is more than fp32."""
    chosen = params.export
    num_costs = chosen.cost_photos if set(chosen.precisions) - {"fp32"} else 0
    if given is not None and not num_costs:
        return given, None
    known = labelled(labels, max(num_costs, 0 if given else chosen.photos), params)
    places = spread(chosen.photos, len(known.images))
    shown = given or Shown(known.place, [known.images[place] for place in places])
    return shown, known.some(num_costs) if num_costs else None


def _images(places: list[str], out: str, params: Params) -> list[Any]:
    """Photos spread over those that are there; broken ones pass by. None where no place is given."""
    if not places:
        return []
    source = find_photos(places, out, params.shards.max_pixels)
    images = []
    for number in spread(params.export.photos, len(source)):
        try:
            images.append(source.read(number).image)
        except BrokenPhoto:
            continue
    if not images:
        raise ValueError(f"{places[0]}: none of its photos can be read")
    return images
