"""What a change of parameters would run again: the stages that see it, and all that read what those write."""

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipelines.stages import MAIN, Pipeline, Stage, read_pipeline


class Change(NamedTuple):
    """A stage that would run again, and why."""

    stage: str
    reasons: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", default=MAIN, help="oapseg, or a folder with a dvc.yaml (default: %(default)s)")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="as `dvc exp run -S`"
    )


def main(args: argparse.Namespace) -> None:
    found = changes(read_pipeline(name=args.pipeline), read_pipeline(overrides=args.set_param, name=args.pipeline))
    width = max((len(change.stage) for change in found), default=0)
    for change in found:
        print(f"{change.stage:{width}}  {', '.join(change.reasons)}")
    if not found:
        print("nothing would run again")


def changes(before: Pipeline, after: Pipeline) -> list[Change]:
    """The stages of `after` that a run of `before` has not in its cache, in the order that they run in."""
    known = {stage.name: stage for stage in before.stages}
    found: dict[str, Change] = {}
    for stage in after.stages:
        reasons = list(_own(known.get(stage.name), stage, before, after))
        reasons += [f"reads {writer}" for writer in sorted(after.upstream(stage.name) & found.keys())]
        if reasons or not stage.meta.cache:
            found[stage.name] = Change(stage.name, tuple(reasons or ["never cached"]))
    return list(found.values())


def _own(old: Stage | None, new: Stage, before: Pipeline, after: Pipeline) -> Iterator[str]:
    """Why a stage would run again if all that it reads were the same."""
    if old is None:
        yield "new"
        return
    one, other = _flat(_seen(old, before)), _flat(_seen(new, after))
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            yield f"{key} {one.get(key)!r} -> {other.get(key)!r}"
    if old.cmd != new.cmd:
        yield "other command"
    if old.deps != new.deps:
        yield "reads other files"
    if old.outs != new.outs:
        yield "writes other files"
    if old.meta.image != new.meta.image:
        yield "other image"


def _seen(stage: Stage, pipeline: Pipeline) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in stage.params:
        section: Any = pipeline.params
        for part in key.split("."):
            section = section[part]
        values[key] = section
    return values


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; lists are values."""
    if not isinstance(values, dict):
        return {prefix: values}
    inner = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items()]
    return {key: value for found in inner for key, value in found.items()}
