"""Sections of `params.yaml` as parameters of a pipeline: types, defaults, and the file's comments as descriptions."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipelines.stages import Pipeline, identifier

TYPES = {bool: "Boolean", int: "Integer", float: "Float", str: "String", list: "JsonArray", dict: "JsonObject"}
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w]*):(?:\s[^#]*)?(?:\s*#\s*(?P<comment>.*))?$")


class Parameter(NamedTuple):
    """One field of the run's form; `key` is the dotted key of `params.yaml`, empty for what only a cluster has."""

    name: str
    type: str  # as component texts name it
    default: Any
    description: str
    key: str = ""


def sections(pipeline: Pipeline) -> list[Parameter]:
    """One parameter for each section that stages name, in the file's order.

    Where one stage names a section and another a part of it (`pool` and `pool.oap`), each part is a parameter: none is
    said twice, and a stage's cache depends on its own part alone.

    Errors: `ValueError` where a stage names a section that the file has not.
    """
    comments = dict(_comments(pipeline.params_yaml))
    named = {key for stage in pipeline.stages for key in stage.params}
    parts = [part for key in pipeline.params for part in _parts(key, pipeline.params[key], named)]
    for key in sorted(named - {part for part, _ in parts}):
        if not any(part.startswith(f"{key}.") for part, _ in parts):
            raise ValueError(f"params.yaml: no section {key}, which {pipeline.file} names")
    return [
        Parameter(identifier(key), TYPES[type(value)], without_null(value), _description(key, comments), key)
        for key, value in parts
    ]


def seen_by(stage_params: tuple[str, ...], parameters: list[Parameter]) -> list[Parameter]:
    """The parameters that a stage may see."""
    return [each for each in parameters if any(f"{each.key}.".startswith(f"{key}.") for key in stage_params)]


def without_null(value: Any) -> Any:
    """A value without the keys that are null, which Kubeflow's SDK refuses; the container knows them as null again."""
    if isinstance(value, dict):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    return [without_null(inner) for inner in value] if isinstance(value, list) else value


def _parts(key: str, value: Any, named: set[str]) -> Iterator[tuple[str, Any]]:
    """A section whole where only it is named, else its parts; nothing where no stage names any of it."""
    if any(other.startswith(f"{key}.") for other in named):
        for part, inner in value.items():
            yield from _parts(f"{key}.{part}", inner, named | ({f"{key}.{part}"} if key in named else set()))
    elif key in named:
        yield key, value


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and the comment behind each. A line that opens with one belongs to the key before."""
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        stack = [(depth, key) for depth, key in stack if depth < indent] + [(indent, found["key"])]
        yield ".".join(key for _, key in stack), found["comment"] or ""


def _description(key: str, comments: dict[str, str]) -> str:
    """What a section is, and below it a line for each of its keys that has a comment."""
    inner = [
        f"{name[len(key) + 1 :]}: {text}" for name, text in comments.items() if name.startswith(f"{key}.") and text
    ]
    return "\n".join([comments.get(key) or key, *inner])
