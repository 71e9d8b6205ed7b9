"""Save names for a model's clusters, as the page of the step report gives them, to the model's folder.

    oapseg name-clusters work/finetune/model names.json

`names.json` is an object of names by cluster, `{"12": "dog", "7": null}`; null takes a name away, clusters that are not
in it keep theirs. The model's results say `cluster_name` from the next predictions on, for which nothing is predicted
anew. A version that is registered is never changed: after naming, `python -m components register` makes a new one.
"""

import argparse
import sys

from rich.console import Console

from oapseg import storage
from oapseg.checkpoint.cluster_names import name_clusters, parse_names
from oapseg.params import load_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, such as work/finetune/model")
    parser.add_argument("names", metavar="NAMES", help="JSON file of names by cluster; - reads it from the input")


def main(args: argparse.Namespace) -> None:
    load_params(args.params)
    if args.model.startswith("models:/"):
        raise ValueError(
            f"{args.model}: a registered version is never changed; name the model's folder, register it again"
        )
    content = sys.stdin.buffer.read() if args.names == "-" else storage.read_bytes(args.names)
    names = parse_names(content, "the input" if args.names == "-" else args.names)
    named = name_clusters(args.model, names)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{args.model}: {len(named)} cluster{'s' * (len(named) != 1)} named")
    for number, name in named.items():
        console.print(f"  {number:>4}  {name}")
