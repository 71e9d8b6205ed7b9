"""A stage as the text of a container component: its own command, and behind it what the engine knows."""

import json
import shlex
from enum import Enum
from typing import Any

import yaml

from pipelines.parameters import Parameter, seen_by
from pipelines.stages import Out, Pipeline, Stage, identifier
from pipelines.trainjob import train_job

STEP = ["python", "-m", "components"]
IMAGE = "image"  # input of every stage: what its containers run, which no container can see from inside
DONE = {"name": "done", "type": "String"}  # of a part: nothing but that it is there
PREFIX = Parameter(
    "s3_prefix",
    "String",
    "s3://oapseg/runs",
    "URL below which the run keeps shards, checkpoints, predictions and the report, each run in a folder of its own",
)
EXPERIMENT = Parameter(
    "experiment", "String", "oapseg", "Name under which final metrics are pushed and the end is told"
)
DATA_REV = Parameter(
    "data_rev",
    "String",
    "",
    "Git revision of the data that comes from outside the pipeline, told with the run's end; "
    "`python -m pipelines submit -P data_rev=REV` finds its shards through DVC",
)


def inputs_of(pipeline: Pipeline, stage: Stage) -> dict[str, tuple[str, Out]]:
    """The artifacts that a stage takes, by name: the stage that writes each, and the out."""
    found = {
        identifier(out.path): (writer, out)
        for out_of in pipeline.sources[stage.name].values()
        for writer, out in out_of
    }
    return dict(sorted(found.items()))


def externals_of(pipeline: Pipeline, stage: Stage) -> list[Parameter]:
    """A parameter for each folder that a stage reads and no stage writes, unless it is a URL already."""
    return [
        Parameter(
            identifier(path),
            "String",
            "",
            f"URL of {path} in an earlier run (s3_prefix/RUN/{path}), or of what `oapseg data resolve` wrote for it; "
            "empty where the image has a folder of that path",
            path,
        )
        for path in pipeline.external(stage.name)
        if "://" not in path
    ]


class Share(Enum):
    """What of a stage a task does: all of it, one part of `meta.split`, or making one of the parts."""

    WHOLE = "whole"
    PART = "part"
    JOIN = "join"


def takes(pipeline: Pipeline, stage: Stage, parameters: list[Parameter], share: Share) -> list[Parameter]:
    """The parameters that a stage's task is given. Who joins parts reads none of the data that they are made of.

    The revision of the data goes to who reads it from outside, and to who reads what came of it and is run each time,
    as the step that registers: told to any other, it would only make its cached results void.
    """
    externals = [] if share is Share.JOIN else externals_of(pipeline, stage)
    told = externals or (stage.deps and not stage.meta.cache)
    return [*seen_by(stage.params, parameters), PREFIX, *externals, *([DATA_REV] if told else [])]


def component_text(
    pipeline: Pipeline, stage: Stage, parameters: list[Parameter], image: str, share: Share = Share.WHOLE
) -> str:
    """The component of a stage.

    Errors: `ValueError` where its command is no step, two of its names are one to Kubeflow, or it cannot be split.
    """
    command = shlex.split(stage.cmd)
    if command[: len(STEP)] != STEP or len(command) == len(STEP):
        raise ValueError(
            f"{pipeline.file}: stage {stage.name}: cmd must be `{' '.join(STEP)} STEP ...`, is `{stage.cmd}`"
        )
    if share is not Share.WHOLE and (len(stage.outs) != 1 or stage.outs[0].path not in command):
        raise ValueError(f"{pipeline.file}: stage {stage.name}: meta.split needs one out, which its cmd names")
    artifacts = {} if share is Share.JOIN else {name: out for name, (_, out) in inputs_of(pipeline, stage).items()}
    outputs = {} if share is Share.PART else {identifier(out.path): out for out in stage.outs}
    given = takes(pipeline, stage, parameters, share)
    files = [*artifacts, *(identifier(out.path) for out in stage.outs)]
    names = [*files, *(parameter.name for parameter in given), IMAGE]
    if double := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"{pipeline.file}: stage {stage.name}: two of its files or sections are called {sorted(double)[0]}"
        )
    words: list[Any] = [
        *(command if stage.meta.nodes == 1 else _launched(command, stage)),
        *_share_words(stage, share),
        *(f"--bind={name}={out.path}" for name, out in (artifacts | outputs).items()),
        *(f"--param={each.name}={each.key}" for each in seen_by(stage.params, parameters)),
        *(f"--external={each.name}={each.key}" for each in given if each in externals_of(pipeline, stage)),
        *(f"--fixed={key}={json.dumps(value)}" for key, value in sorted(stage.fixed.items())),
        *(f"--persist={out.path}" for out in stage.outs if out.persist),
        *(["--optional"] if stage.meta.optional else []),
        *("--image", {"inputValue": IMAGE}),
    ]
    inputs = [{"name": name, "type": out.kind} for name, out in artifacts.items()]
    inputs += [{"name": parameter.name, "type": parameter.type} for parameter in given]
    inputs.append({"name": IMAGE, "type": "String"})
    ports = [{"name": name, "type": out.kind} for name, out in outputs.items()]
    name = stage.name
    if share is Share.PART:
        name, inputs, ports = f"{name}-part", [*inputs, {"name": "part", "type": "String"}], [DONE]
    elif share is Share.JOIN:
        inputs.append({"name": "parts", "type": "JsonArray"})
    return text(name, stage.desc, inputs, ports, image, words)


def _launched(command: list[str], stage: Stage) -> list[Any]:
    """The command as that of a launcher, which makes a `TrainJob` of it."""
    launcher = [*STEP, "launch", "--job", json.dumps(train_job(stage.meta)), "--image", {"inputValue": IMAGE}, "--"]
    return [*launcher, *command[len(STEP) :]]


def _share_words(stage: Stage, share: Share) -> list[Any]:
    """Parts are written straight to where all of them are joined, so no machine holds the whole."""
    if share is Share.WHOLE:
        return []
    which = ["--part", {"inputValue": "part"}] if share is Share.PART else [f"--parts={stage.meta.split}", "--join"]
    return [*which, f"--direct={stage.outs[0].path}"]


def text(
    name: str,
    description: str,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    image: str,
    args: list[Any],
) -> str:
    """A container component; its command ends with the executor input."""
    words = [*args[len(STEP) :], "--executor-input", {"executorInput": None}]
    container = {"image": image, "command": STEP, "args": words}
    content = {"name": name, "description": description, "inputs": inputs, "outputs": outputs}
    return yaml.safe_dump(content | {"implementation": {"container": container}}, sort_keys=False)
