"""Give an alias back to the version that had it before: one more entry in the journal."""

import argparse

from rich.console import Console

from oapseg.params import load_params
from oapseg.registry.promote import roll_back
from oapseg.registry.server import place_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the registered model")
    parser.add_argument("--alias", default="champion", help="the alias (default: %(default)s)")
    parser.add_argument("--to", type=int, metavar="VERSION", help="an earlier holder; default: the one before")
    parser.add_argument("--reason", default="", help="why, for the journal")
    parser.add_argument("--dry-run", action="store_true", help="say which version it would be; nothing is written")


def main(args: argparse.Namespace) -> None:
    place = place_of(load_params(args.params), args.name)
    done = roll_back(place, args.alias, to=args.to, reason=args.reason, dry_run=args.dry_run)
    console = Console(highlight=False, soft_wrap=True)
    alias, after = f"{args.name}@{args.alias}", f"after version {done.before}"
    if done.entry is None:
        console.print(f"version {done.version} would be {alias} again, {after}; nothing was changed")
        return
    by = f"entry {done.entry.number}, by {done.entry.who}"
    console.print(f"version {done.version} is {alias} again, {after} ({by})", markup=False)
