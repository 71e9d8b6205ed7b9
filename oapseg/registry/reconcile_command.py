"""Bring the registry's aliases in line with the journal, where a promoter was killed or somebody moved one by hand."""

import argparse

from rich.console import Console

from oapseg.params import load_params
from oapseg.registry.promote import reconcile
from oapseg.registry.server import place_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the registered model")


def main(args: argparse.Namespace) -> None:
    place = place_of(load_params(args.params), args.name)
    console = Console(highlight=False, soft_wrap=True)
    for alias, (before, now) in reconcile(place).items():
        was = "nothing" if before is None else f"version {before}"
        said = "as the journal says" if before == now else f"was {was} and now is as the journal says"
        console.print(f"{args.name}@{alias}: version {now}, {said}")
