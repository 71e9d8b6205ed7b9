"""Register the measured model: a version with card, parameters, data versions, commit and scores, judged by a gate."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from oapseg import storage
from oapseg.checkpoint.export import HASHES, completed, model_hash, read_files, write_files
from oapseg.checkpoint.model import look_of
from oapseg.evaluate.scores import Score
from oapseg.params import Params, load_params
from oapseg.registry.card import NO_LICENCE, model_card
from oapseg.registry.evidence import LICENCE, METRICS, SCORES, Evidence, Scored, read_benchmarks, score_files
from oapseg.registry.gate import Verdict, as_markdown, passed, records, refusal
from oapseg.registry.lineage import content_sha256, set_name, trace
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.promote import judge_registered
from oapseg.registry.register import register
from oapseg.registry.server import journal_of, tracking_uri
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
    files, checkpoint = read_files(args.model), model_hash(args.model)
    benchmarks = read_benchmarks(args.evaluate)
    folders = dict(zip(benchmarks, args.evaluate, strict=True))
    for benchmark, folder in folders.items():
        if wrong := benchmarks[benchmark].foreign(checkpoint):
            raise ValueError(f"--evaluate: {storage.join(folder, METRICS)}: {wrong}, which --model {args.model} is")
    lineage = trace(args.model, args.shards, args.parent)
    stated = params.registration.licences
    licences = {each: stated.get(each, NO_LICENCE) for each in ("encoder", *lineage.data)}
    scores = {benchmark: scored.scores for benchmark, scored in benchmarks.items()}
    manifests = {set_name(folder): load_manifest(folder) for folder in args.shards}
    card = model_card(name, scores, manifests.values(), lineage, licences)
    write_files(args.out / "model", completed(files, card=card, look=look_of(params.predict)))
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
    evidence = _evidence(f"version {version.version}", benchmarks, checkpoint, card, licences) if version.new else None
    journal = journal_of(params)
    if journal is None:
        only = f"promote.journal: {params.promote.journal} is a folder of this machine alone"
        Console(soft_wrap=True, highlight=False).print(
            f"{only}; whoever the registry says holds the alias is compared with", markup=False
        )
    verdicts = judge_registered(uri, journal, version, params.registration.gate, evidence, gate)
    _tell(verdicts, params, args.out)


def _evidence(
    version: str, benchmarks: dict[str, Scored], checkpoint: str, card: str, licences: dict[str, str]
) -> Evidence:
    """As a promotion finds it: without the scores that do not say which model they are of."""
    wrong = {benchmark: each.no_evidence(checkpoint) for benchmark, each in benchmarks.items()}
    own = {benchmark: each for benchmark, each in benchmarks.items() if wrong[benchmark] is None}
    return Evidence(version, own, card, licences, "; ".join(filter(None, wrong.values())) or None)


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
