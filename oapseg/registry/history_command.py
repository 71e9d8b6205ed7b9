"""Who made which version what, and why: the journal of a model, oldest entry first."""

import argparse

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from oapseg.params import load_params
from oapseg.registry.journal import Entry, Journal
from oapseg.registry.server import place_of

LOG_COLUMNS = 150  # of a table that goes to a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the registered model")
    parser.add_argument("--alias", help="of this alias alone")


def main(args: argparse.Namespace) -> None:
    place = place_of(load_params(args.params), args.name)
    journal = Journal(place.journal, place.name)
    entries = [entry for entry in journal.entries() if args.alias in (None, entry.alias)]
    if not entries:
        raise ValueError(f"{journal.folder}: no entry{f' of {args.alias}' if args.alias else ''}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("entry", "when", "who", "what", "alias", "from", "to", "gate", "reason"):
        table.add_column(column)
    for entry in entries:
        before = "" if entry.before is None else str(entry.before)
        when, reason = entry.when[:19].replace("T", " "), entry.reason
        row = [entry.number, when, entry.who, entry.action, entry.alias, before, entry.version, _gate(entry), reason]
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console(highlight=False)
    console.width = max(console.width, 0 if console.is_terminal else LOG_COLUMNS)
    console.print(table)


def _gate(entry: Entry) -> str:
    if entry.override:
        return f"overridden: {entry.override}"
    return "passed" if entry.verdicts else ""
