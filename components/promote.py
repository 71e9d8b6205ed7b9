"""Give the registered version an alias, where the alias's gate lets it pass: the pipeline `promote`."""

import argparse
from pathlib import Path

from oapseg import storage
from oapseg.params import load_params
from oapseg.registry.gate import as_markdown, records
from oapseg.registry.promote import promote
from oapseg.registry.promote_command import gate_of, tell
from oapseg.registry.server import place_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="folder for decision.json and the verdict")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    chosen, name = params.promote, params.registration.name
    decision = promote(
        place_of(params),
        chosen.version,
        chosen.to,
        gate_of(params, chosen.to),
        reason=chosen.reason,
        override=chosen.override,
    )
    entry = None if decision.entry is None else decision.entry.number
    said = {"name": name, "alias": chosen.to, "version": decision.version, "holder": decision.holder, "entry": entry}
    storage.write_json(args.out / "decision.json", said | {"rules": records(decision.verdicts)})
    title = f"# {name} version {decision.version} to {chosen.to}"
    storage.write_text(args.out / "verdict.md", f"{title}\n\n{as_markdown(decision.verdicts)}\n")
    tell(decision, name, chosen.to, dry_run=False)
