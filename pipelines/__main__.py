"""Every `dvc.yaml` on Kubeflow: compile its package, start a run of it, say what a change would run again."""

import argparse
import sys
from pathlib import Path

from pipelines import diff, submit
from pipelines.compiler import compile_package, package_path
from pipelines.stages import pipeline_files, read_pipeline


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compiling = commands.add_parser("compile", help="write the packages for the Kubeflow UI")
    compiling.add_argument("--pipeline", help="oapseg, or a folder with a dvc.yaml (default: all)")
    compiling.add_argument("--out", type=Path, help="the package, of one pipeline (default: in pipelines/compiled)")
    compiling.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="as `dvc exp run -S`"
    )
    compiling.add_argument("--image", help="one image for all steps instead of parameters; {target} is cpu or gpu")
    compiling.add_argument("--local", action="store_true", help="for kfp.local, with --image")
    compiling.set_defaults(main=_compile)
    for module, help_text in ((submit, "start a run on a Kubeflow server"), (diff, "what a change would run again")):
        command = commands.add_parser(module.__name__.rpartition(".")[2], help=help_text, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    args = parser.parse_args(arguments)
    try:
        args.main(args)
    except (ValueError, OSError) as error:
        print(f"python -m pipelines {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _compile(args: argparse.Namespace) -> None:
    if args.local and not args.image:
        raise ValueError("--local: needs --image, since kfp.local knows no image parameters")
    if args.out and not args.pipeline:
        raise ValueError("--out: needs --pipeline, since each pipeline has a package of its own")
    for name in [args.pipeline] if args.pipeline else pipeline_files():
        pipeline = read_pipeline(overrides=args.set_param, name=name)
        text = compile_package(pipeline, args.image, local=args.local)
        out = args.out or package_path(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        print(out)


if __name__ == "__main__":
    sys.exit(main())
