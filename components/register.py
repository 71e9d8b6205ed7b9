"""Register the measured model: a version with card, parameters, data versions, commit and scores, judged by a gate."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from oapseg import storage
from oapseg.checkpoint.export import HASHES, completed, read_files, write_files
from oapseg.checkpoint.model import look_of
from oapseg.evaluate.scores import Score
from oapseg.params import Params, load_params
from oapseg.registry.card import NO_LICENCE, model_card
from oapseg.registry.evidence import LICENCE, METRICS, SCORES, Evidence, read_benchmarks, score_files
from oapseg.registry.gate import Verdict, as_markdown, passed, records, refusal
from oapseg.registry.lineage import content_sha256, trace
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.promote import judge_registered
from oapseg.registry.register import register
from oapseg.registry.server import tracking_uri
from oapseg.shards.manifest import load_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, help="folder of the trained model")
    parser.add_argument("--parent", type=Path, help="folder of the model that its training went on from")
    parser.add_argument(
        "--evaluate", required=True, nargs="+", help="folders or s3:// URLs that the steps evaluate and benchmark wrote"
    )
    parser.add_argument("--report", required=True, type=Path, help="folder that the step report wrote")
    parser.add_argument("--shards", nargs="+", required=True, help="every set of shards behind it")
    parser.add_argument("--out", required=True, type=Path, help="folder for version.json, the card and the verdict")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    name, uri = params.registration.name, tracking_uri(params)
    gate = params.promote.gates.get(params.registration.gate)
    if gate is None:
        raise ValueError(
            f"register.gate: promote.gates has no {params.registration.gate}; it has {', '.join(params.promote.gates)}"
        )
    benchmarks = read_benchmarks(args.evaluate)
    folders = dict(zip(benchmarks, args.evaluate, strict=True))
    lineage = trace(args.model, args.shards, args.parent)
    stated = params.registration.licences
    licences = {each: stated.get(each, NO_LICENCE) for each in ("encoder", *lineage.data)}
    scores = {benchmark: scored.scores for benchmark, scored in benchmarks.items()}
    card = model_card(name, scores, [load_manifest(folder) for folder in args.shards], lineage, licences)
    write_files(args.out / "model", completed(read_files(args.model), card=card, look=look_of(params.predict)))
    storage.write_text(args.out / "card.md", card)
    storage.delete(args.out / "evaluate")
    for benchmark, folder in folders.items():
        write_files(args.out / "evaluate" / benchmark, score_files(folder))
    sealed = {f"{SCORES}{benchmark}": args.out / "evaluate" / benchmark for benchmark in folders}
    sealed[SEAL_TAG] = args.out / "model"
    version = register(
        name,
        uri,
        artifacts={"model": args.out / "model", "evaluate": args.out / "evaluate", "report": args.report},
        content=content_sha256(args.model, {each: storage.join(folder, METRICS) for each, folder in folders.items()}),
        card=card,
        metrics=_metrics(scores),
        tags=lineage.tags()
        | {f"{LICENCE}{each}": licence for each, licence in licences.items()}
        | {tag: storage.sha256(folder / HASHES) for tag, folder in sealed.items()},
    )
    storage.write_json(args.out / "version.json", {k: v for k, v in asdict(version).items() if k != "new"})
    said = "registered" if version.new else "already registered"
    Console().print(f"{version.name} version {version.version} {said} ({version.uri} in {uri})")
    # Of content that was there, its own card and licences stand, and a promotion goes by them.
    evidence = Evidence(f"version {version.version}", benchmarks, card, licences) if version.new else None
    verdicts = judge_registered(uri, version, params.registration.gate, evidence, gate)
    _tell(verdicts, params, args.out)


def _metrics(benchmarks: dict[str, dict[str, Score]]) -> dict[str, float]:
    """Flat names as the registry lists them; those of further benchmarks below the benchmark's name."""
    flat: dict[str, float] = {}
    for place, (benchmark, scores) in enumerate(benchmarks.items()):
        flat |= {f"{benchmark}/{name}" if place else name: score.value for name, score in scores.items()}
    return flat


def _tell(verdicts: list[Verdict], params: Params, out: Path) -> None:
    """The gate's verdict to files and to the log. Errors: `ValueError` where it is refused and `must_pass` says so."""
    alias, wrong = params.registration.gate, refusal(verdicts)
    line = f"gate of {alias}: {'passed' if passed(verdicts) else f'refused: {wrong}'}"
    storage.write_json(out / "verdict.json", {"alias": alias, "passed": passed(verdicts), "rules": records(verdicts)})
    storage.write_text(out / "verdict.md", f"# {params.registration.name}\n\n{line}\n\n{as_markdown(verdicts)}\n")
    Console(soft_wrap=True, highlight=False).print(line, markup=False)
    if params.registration.must_pass and not passed(verdicts):
        raise ValueError(f"register.must_pass: {line}")
