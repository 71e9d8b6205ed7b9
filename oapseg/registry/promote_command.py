"""Give a registered version an alias, where the alias's gate lets it pass; every promotion is in the journal.

The gate is `promote.gates.ALIAS` of params.yaml. A version that it refuses can be promoted with `--override REASON`,
which is recorded. Of several promoters at once one wins, and the others are told.
"""

import argparse
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg.params import GateParams, Params, load_params
from oapseg.registry.gate import Verdict, cells, refusal
from oapseg.registry.promote import Decision, promote
from oapseg.registry.server import place_of

LOG_COLUMNS = 150  # of a table that goes to a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the registered model")
    parser.add_argument("version", metavar="VERSION", help="its version: a number, or latest")
    parser.add_argument("--to", required=True, metavar="ALIAS", help="the alias, one of promote.gates")
    parser.add_argument("--reason", default="", help="why, for the journal")
    parser.add_argument("--override", default="", metavar="REASON", help="why against the gate's verdict; recorded")
    parser.add_argument("--dry-run", action="store_true", help="the verdict alone; nothing is written")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    decision = promote(
        place_of(params, args.name),
        args.version,
        args.to,
        gate_of(params, args.to),
        reason=args.reason,
        override=args.override,
        dry_run=args.dry_run,
    )
    tell(decision, args.name, args.to, dry_run=args.dry_run)


def gate_of(params: Params, alias: str) -> GateParams:
    """Errors: `ValueError` naming the aliases that have a gate."""
    if alias not in params.promote.gates:
        raise ValueError(f"promote.gates has no {alias}; it has {', '.join(params.promote.gates) or 'none'}")
    return params.promote.gates[alias]


def tell(decision: Decision, name: str, alias: str, *, dry_run: bool) -> None:
    """The table and what was done. Errors: `ValueError` with the rules that were not met, where it was refused."""
    who, has = f"version {decision.version}", "nobody" if decision.holder is None else f"version {decision.holder}"
    console = Console(highlight=False, soft_wrap=True)
    if decision.version == decision.holder:
        console.print(f"{who} is {name}@{alias} already")
        return
    print_verdicts(decision.verdicts, f"{name} {who} to {alias}, which {has} holds")
    if decision.entry is None and not decision.passed:
        raise ValueError(f"{name} {who} refused for {alias}: {refusal(decision.verdicts)}")
    if dry_run or decision.entry is None:
        console.print(f"{who} would be {name}@{alias}; nothing was changed")
        return
    against = f", against the gate: {decision.entry.override}" if decision.entry.override else ""
    console.print(
        f"{who} is {name}@{alias} (entry {decision.entry.number}, by {decision.entry.who}{against})", markup=False
    )


def print_verdicts(verdicts: Sequence[Verdict], title: str) -> None:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for column in ("rule", "benchmark", "score", "limit", "candidate", "holder", "difference [95 %]", "verdict"):
        table.add_column(column, justify="right" if column in ("limit", "candidate", "holder") else "left")
    for row in cells(verdicts):
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console = Console(highlight=False)
    console.width = max(console.width, 0 if console.is_terminal else LOG_COLUMNS)
    console.print(table)
