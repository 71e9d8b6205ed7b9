"""Register the measured model: a version with its card, parameters, data version, commit and scores."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from oapseg import storage
from oapseg.evaluate.scores import read_scores
from oapseg.params import load_params
from oapseg.registry.card import model_card
from oapseg.registry.lineage import content_sha256, trace
from oapseg.registry.register import register
from oapseg.shards.manifest import load_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, help="folder of the trained model")
    parser.add_argument("--evaluate", required=True, type=Path, help="folder that the step evaluate wrote")
    parser.add_argument("--report", required=True, type=Path, help="folder that the step report wrote")
    parser.add_argument("--shards", nargs="+", required=True, help="every set of shards behind it")
    parser.add_argument("--out", required=True, type=Path, help="folder for version.json and the card")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params).registration
    scores_path = args.evaluate / "metrics.json"
    scores = read_scores(storage.read_json(scores_path))
    lineage = trace(args.model, args.shards)
    card = model_card(params.name, scores, [load_manifest(folder) for folder in args.shards], lineage)
    storage.write_text(args.out / "card.md", card)
    version = register(
        params.name,
        params.tracking_uri,
        artifacts={"model": args.model, "evaluate": scores_path, "report": args.report},
        content=content_sha256(args.model, scores_path),
        card=card,
        scores=scores,
        tags=lineage.tags(),
    )
    storage.write_json(args.out / "version.json", {k: v for k, v in asdict(version).items() if k != "new"})
    said = "registered" if version.new else "already registered"
    Console().print(f"{version.name} version {version.version} {said} ({version.uri} in {params.tracking_uri})")
