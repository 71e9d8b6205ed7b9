"""The command line for people; each command calls rooms only."""

import argparse
import importlib
import sys
from typing import NamedTuple

from oapseg import __version__
from oapseg.params import default_params_path

CLEAR_ERRORS = (ValueError, OSError, FloatingPointError)  # what bad input raises; anything else is our own mistake


class Command(NamedTuple):
    """A module with `add_arguments(parser)` and `main(args)`, and its line in the list of commands.

    `main` returns an exit code where it is not 0.
    """

    module: str
    help: str


COMMANDS = {
    "sample": Command("oapseg.shards.sample", "draw the embedded sample: photos with exact labels"),
    "data": Command("oapseg.shards.data_command", "read a data version from where DVC keeps it, with nothing copied"),
    "compare": Command("oapseg.report.compare_command", "every generator of masks side by side on the same photos"),
    "tune": Command("oapseg.report.tune_command", "settings of a generator for photos without labels"),
    "masks": Command("oapseg.report.masks_command", "masks of any folder of photos, by Online Agglomerative Pooling"),
    "compare-runs": Command("oapseg.report.runs_command", "two runs in pairs: scores, photos that changed"),
    "name-clusters": Command("oapseg.report.clusters_command", "save names for a model's clusters"),
    "watch": Command("oapseg.monitor.watch_command", "a training's health in the terminal"),
    "plot": Command("oapseg.monitor.plot_command", "a training's curves as a picture and a page"),
    "promote": Command("oapseg.registry.promote_command", "give a registered version an alias, by its gate"),
    "rollback": Command("oapseg.registry.rollback_command", "give an alias back to the version that had it before"),
    "history": Command("oapseg.registry.history_command", "who made which version what, and why"),
    "serve": Command("oapseg.serve.command", "masks over HTTP, with a page to try it on"),
    "predict": Command("oapseg.use.predict_command", "masks of photos by a promoted model, resumable"),
    "export": Command("oapseg.use.export_command", "a model as ONNX, with how far it agrees"),
    "reconcile": Command("oapseg.registry.reconcile_command", "bring the registry's aliases in line with the journal"),
}


def main(arguments: list[str] | None = None) -> int:
    """The command `oapseg`."""
    return dispatch("oapseg", __doc__ or "", COMMANDS, str(default_params_path()), arguments)


def dispatch(
    program: str, description: str, commands: dict[str, Command], params: str, arguments: list[str] | None
) -> int:
    """Run one command, importing its module alone; bad input is one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"oapseg {__version__}")
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        choice = choices.add_parser(name, help=command.help, description=command.help)
        if name in arguments[:1]:
            module = importlib.import_module(command.module)
            choice.description = module.__doc__
            choice.add_argument("--params", default=params, help="the parameters file (default: %(default)s)")
            module.add_arguments(choice)
    args = parser.parse_args(arguments)
    try:
        return module.main(args) or 0
    except CLEAR_ERRORS as error:
        print(f"{program} {args.command}: {_line(error)}", file=sys.stderr)
        return 2


def _line(error: Exception) -> str:
    """What went wrong, in a line: of an error of the file system, which file and why."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
