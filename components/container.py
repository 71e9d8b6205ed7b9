"""A step in a container of Kubeflow Pipelines: the same command, the same step function, the same outputs.

The command of a stage is followed by what the engine knows. Parameters become a `params.yaml`, input artifacts lie at
the paths that the command names, all in a workspace of its own; what the step writes goes to `S3_PREFIX/RUN/PATH`, and
the artifact is a pointer to it. A step that was killed finds what it left there (`--persist`): the run is the same.

Exit codes: 0 done, or nothing to do for want of data (`--optional`); 2 bad input, or storage that does not answer (one
line says which); 75 stopped on request with all saved, run again. Kubernetes runs a step again after any but 0.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from components.artifact import is_nothing, lay, listing, point, publish
from components.executor import Execution, Slot, read_execution, write_outputs
from components.mirror import EVERY_S, Mirror
from components.parts import gather, joined
from oapseg import storage
from oapseg.checkpoint import RESUME
from oapseg.cli import CLEAR_ERRORS
from oapseg.registry.lineage import DATA_REV, IMAGE, RUN
from oapseg.shards.manifest import FILE_NAME

FLAG = "--executor-input"
METRICS, PAGES = "system.Metrics", ("system.HTML", "system.Markdown")
MISSING = 3  # of a step: the data that it is for are not there

Step = Callable[[list[str]], int]  # a step's name and options, to its exit code


def run(arguments: list[str], step: Step) -> int:
    """Run `STEP OPTIONS` in a workspace and publish what it wrote."""
    args, command = _parser().parse_known_args(arguments)
    try:
        with terminated():
            return _run(args, command, step)
    except CLEAR_ERRORS as error:
        print(f"python -m components {command[0]}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components STEP", allow_abbrev=False)
    parser.add_argument(FLAG, required=True, help="what Kubeflow's launcher says of this run of the step")
    parser.add_argument("--bind", action="append", default=[], metavar="NAME=PATH", help="an artifact and its path")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=KEY", help="a parameter and its key")
    parser.add_argument(
        "--fixed", action="append", default=[], metavar="KEY=JSON", help="a value the command is made of"
    )
    parser.add_argument("--persist", action="append", default=[], metavar="PATH", help="an out kept while it grows")
    parser.add_argument("--optional", action="store_true", help="without the data that it is for, the step is skipped")
    parser.add_argument("--direct", metavar="PATH", help="an out that the step writes to its URL itself")
    parser.add_argument("--detached", action="store_true", help="artifacts lie at their URIs, no launcher copies them")
    parser.add_argument("--mirror-s", type=float, default=EVERY_S, help="seconds between copies of what is kept")
    parser.add_argument("--external", action="append", default=[], metavar="NAME=PATH", help="data no step writes")
    parser.add_argument("--run", default=os.environ.get(RUN), help=f"id of the pipeline run ({RUN})")
    parser.add_argument("--image", default=os.environ.get(IMAGE), help=f"what this container runs ({IMAGE})")
    parser.add_argument("--params", default="params.yaml", help="values of the parameters that are not given")
    return parser


def _run(args: argparse.Namespace, command: list[str], step: Step) -> int:
    execution = read_execution(args.executor_input, detached=args.detached)
    place = place_of(execution, args.run)
    done = False
    if (parts := execution.parameters.get("parts")) is not None:
        place = gather(parts, place, args.direct)
        done = joined(place, args.direct, len(parts))
    paths = dict(_pair(bind, "--bind") for bind in args.bind)
    given = {key: execution.parameters[name] for name, key in (_pair(param, "--param") for param in args.param)}
    text = params_text(Path(args.params).read_text(), given, [_pair(fixed, "--fixed") for fixed in args.fixed])
    here, first = Path.cwd(), os.environ.get("RANK", "0") == "0"  # of a training's processes, the first alone writes
    told = {RUN: args.run, IMAGE: args.image, DATA_REV: execution.parameters.get("data_rev")}
    with _workspace(), _told({name: str(value) for name, value in told.items() if value}):
        for name, path in (_pair(external, "--external") for external in args.external):
            lay_external(str(execution.parameters.get(name, "")), here / path, Path(path))
        Path("params.yaml").write_text(text)
        pointers = {name: slot.read().decode() for name, slot in execution.inputs.items()}
        for name, pointer in pointers.items():
            lay(pointer, Path(paths[name]))
        mirrors = {path: Mirror(Path(path), storage.join(place, path), args.mirror_s) for path in args.persist}
        with contextlib.ExitStack() as kept:
            for mirror in mirrors.values():
                if first:
                    kept.enter_context(mirror)
                else:
                    mirror.restore()
            if args.optional and any(map(is_nothing, pointers.values())):
                code = MISSING  # what it works on comes of a step that was skipped
            else:
                code = 0 if done else step([*_directed(command, args.direct, place), "--params", "params.yaml"])
        if args.optional and code == MISSING:
            print("skipped", file=sys.stderr)
            for name, slot in execution.outputs.items():
                slot.write(listing(storage.join(place, paths[name]), {}).encode())
            write_outputs(execution, {name: {"skipped": 1} for name in execution.outputs})
            return 0
        if code == 0 and first:
            said = {
                name: _publish(slot, paths[name], place, mirrors.get(paths[name]), direct=paths[name] == args.direct)
                for name, slot in execution.outputs.items()
            }
            for file in execution.output_parameters.values():
                storage.write_text(file, f"{execution.parameters['part']}={place}")
            write_outputs(execution, said)
    return code


def params_text(text: str, given: dict[str, Any], fixed: list[tuple[str, str]]) -> str:
    """A `params.yaml` with the values given by dotted key; the very text where they are those it holds.

    A registry beside the run (`sqlite:`) would go with the container, so `MLFLOW_TRACKING_URI` stands in for one.

    Errors: `ValueError` where a value differs from the one that the compiled command was made of.
    """
    before, values = yaml.safe_load(text), yaml.safe_load(text)
    for key, value in given.items():
        *parents, last = key.split(".")
        section = _at(values, parents)
        section[last] = _as_written(value, section.get(last))
    server = os.environ.get("MLFLOW_TRACKING_URI")
    register = values.get("register", {})
    if server and str(register.get("tracking_uri", "")).startswith("sqlite:"):
        register["tracking_uri"] = server
    for key, value in fixed:
        if (found := _at(values, key.split("."))) != json.loads(value):
            raise ValueError(
                f"{key}: is {found!r}, but the pipeline was compiled with {json.loads(value)!r}; paths are set by "
                "`python -m pipelines submit -S` or `compile -S`, not in the run's form"
            )
    return text if values == before else yaml.safe_dump(values, sort_keys=False)


def _as_written(value: Any, known: Any) -> Any:
    """A value as a person writes it: what is whole is an int, unless its like in the file is a float.

    Null does not travel: a key that is null in the file and not given is null.
    """
    if isinstance(value, dict):
        like = known if isinstance(known, dict) else {}
        nulls = {key: None for key, each in like.items() if each is None}
        return nulls | {key: _as_written(each, like.get(key)) for key, each in value.items()}
    if isinstance(value, list):
        likes = known if isinstance(known, list) and known else [None]
        return [_as_written(each, likes[min(place, len(likes) - 1)]) for place, each in enumerate(value)]
    if isinstance(value, float) and value.is_integer() and not isinstance(known, float):
        return int(value)
    return value


def _at(values: Any, keys: list[str]) -> Any:
    for place, key in enumerate(keys):
        if not isinstance(values, dict) or key not in values:
            raise ValueError(f"{'.'.join(keys[: place + 1])}: no such parameter")
        values = values[key]
    return values


def place_of(execution: Execution, run: str | None) -> str:
    """Where this run's data lies."""
    prefix = str(execution.parameters.get("s3_prefix", "")).rstrip("/")
    if not prefix:
        raise ValueError("s3_prefix: empty; give the URL below which the run keeps its data, s3://bucket/folder")
    if not run:
        raise ValueError("OAPSEG_RUN: not set; it names the run, and a step that is run again finds its data by it")
    return storage.join(prefix if storage.is_url(prefix) else str(Path(prefix).absolute()), run)


def lay_external(pointer: str, found: Path, path: Path) -> None:
    """Data that no step writes: by the URL of a manifest, a listing or a folder, or one in the image or mounted.

    Errors: `ValueError` where there is nothing.
    """
    if pointer.endswith(FILE_NAME):
        folder = pointer.removesuffix(FILE_NAME).rstrip("/")
        lay(point(folder, folder)[0], path)
    elif pointer and (names := storage.list_files(pointer)):
        lay(listing(pointer, dict.fromkeys(names)), path)
    elif pointer:
        lay(storage.read_bytes(pointer).decode(), path)
    elif not found.exists():
        raise ValueError(f"{path}: no step writes it and it is not here; give its URL in the run's form")
    elif not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(found)


def _directed(command: list[str], direct: str | None, place: str) -> list[str]:
    """The command with the URL in place of the out that is written there."""
    return [storage.join(place, direct) if word == direct else word for word in command]


def _publish(slot: Slot, path: str, place: str, mirror: Mirror | None, *, direct: bool) -> dict[str, Any]:
    """Fill an output artifact; its metadata."""
    if slot.kind in PAGES:
        slot.write(Path(path).read_bytes())
        return {}
    url = storage.join(place, path)
    text, said = point(url, url) if direct else publish(Path(path), url, None if mirror is None else mirror.hashes)
    slot.write(text.encode())
    return said | (numbers(storage.read_json(path)) if slot.kind == METRICS else {})


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """What of a file of metrics is a number."""
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"{option}: must be NAME=VALUE, is {text!r}")
    return name, value


@contextlib.contextmanager
def _workspace() -> Iterator[None]:
    """A folder of the step's own, below `OAPSEG_WORKSPACE` or the system's temporary one, as the working directory.

    Its folder `data` is that of the volume mounted at `OAPSEG_DATA`, where there is one.
    """
    with tempfile.TemporaryDirectory(dir=os.environ.get("OAPSEG_WORKSPACE")) as folder, contextlib.chdir(folder):
        if volume := os.environ.get("OAPSEG_DATA"):
            Path("data").symlink_to(volume)
        yield


@contextlib.contextmanager
def _told(said: dict[str, str]) -> Iterator[None]:
    """What the engine alone knows of a run, in the environment: where a step looks for it."""
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def terminated() -> Iterator[None]:
    """SIGTERM leaves by the way out that saves, wherever the step is; a training asks for its own while it runs."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(RESUME)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
