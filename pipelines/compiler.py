"""The compiled package: every stage a task, side by side where nothing binds them; a last one tells the end."""

import contextlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

from pipelines.cluster import NOTIFY, NOTIFY_SECRETS, SECRETS, launcher, place
from pipelines.component import (
    DATA_REV,
    DONE,
    EXPERIMENT,
    IMAGE,
    PREFIX,
    STEP,
    Share,
    component_text,
    externals_of,
    inputs_of,
    takes,
    text,
)
from pipelines.parameters import Parameter, sections
from pipelines.stages import MAIN, ROOT, Pipeline, Stage, identifier

PACKAGES = ROOT / "pipelines" / "compiled"
REGISTRY = "oapseg"  # default of the image parameters; `docs/kubernetes.md` says how an own one is built and pushed
HEADER = "# Compiled from {file} and params.yaml by `python -m pipelines compile`: edit those.\n"
ANNOTATIONS = {"Integer": int, "Float": float, "String": str, "Boolean": bool, "JsonArray": list, "JsonObject": dict}


def package_path(name: str) -> Path:
    """Where the package of a pipeline lies."""
    return PACKAGES / f"{name}.yaml"


def title(name: str) -> str:
    """What Kubeflow calls a pipeline, and its experiment where no other is named."""
    return name if name == MAIN else f"{MAIN}-{identifier(name).replace('_', '-')}"


def image_parameters(pipeline: Pipeline) -> list[Parameter]:
    """One image parameter for each target that stages name: a digest cannot be put together from parts in a form."""
    targets = sorted({stage.meta.image for stage in pipeline.stages} | {NOTIFY.image})
    return [
        Parameter(
            f"image_{target}",
            "String",
            f"{REGISTRY}:{target}",
            f"Container image of the steps that need target {target}, best by digest (REGISTRY/oapseg@sha256:...)",
        )
        for target in targets
    ]


def form(pipeline: Pipeline, image: str | None = None) -> list[Parameter]:
    """Every field of the run's form."""
    externals = {each.name: each for stage in pipeline.stages for each in externals_of(pipeline, stage)}
    images = [] if image else image_parameters(pipeline)
    experiment = EXPERIMENT._replace(default=title(pipeline.name))
    return [*sections(pipeline), PREFIX, experiment, DATA_REV, *images, *externals.values()]


def compile_package(pipeline: Pipeline, image: str | None = None, *, local: bool = False) -> str:
    """The package as YAML text, the same for the same input.

    Images are parameters of the run (Pipelines 2.4 or newer resolves them). With `image` that one is compiled in
    for every task instead, `{target}` in it standing for the target. `local` is for `kfp.local`, which knows neither
    image parameters (so `image` must be given), nor exit handlers (so the last step just comes last, and is not told),
    nor a task behind a loop (so no stage is split).

    Errors: `ValueError` where `dvc.yaml` and `params.yaml` do not fit.
    """
    from google.protobuf import json_format
    from kfp import compiler, dsl

    parameters, of_stages = form(pipeline, image), sections(pipeline)
    notify = _load(_notify_text(pipeline, image, local))
    components = {
        (stage.name, share): _load(component_text(pipeline, stage, of_stages, _static(image, stage.meta.image), share))
        for stage in pipeline.stages
        for share in _shares(stage, local)
    }

    def body(*channels: Any) -> None:
        given = dict(zip((parameter.name for parameter in parameters), channels, strict=True))
        last = notify(s3_prefix=given[PREFIX.name], experiment=given[EXPERIMENT.name], data_rev=given[DATA_REV.name])
        _dress(last, "notify", NOTIFY, given, image, NOTIFY_SECRETS | SECRETS)
        tasks: dict[str, Any] = {}
        with contextlib.nullcontext() if local else dsl.ExitHandler(last, name="stages"):
            for stage in pipeline.stages:

                def task(share: Share, stage: Stage = stage, **more: Any) -> Any:
                    inputs = _inputs(pipeline, stage, of_stages, share, given, tasks, image)
                    made = components[stage.name, share](**inputs, **more)
                    _dress(made, stage.name, launcher(stage.meta), given, image, SECRETS)
                    return made

                if _shares(stage, local) == [Share.WHOLE]:
                    tasks[stage.name] = task(Share.WHOLE)
                    continue
                items = [f"{part}/{stage.meta.split}" for part in range(1, stage.meta.split + 1)]
                with dsl.ParallelFor(items, name=identifier(stage.name).replace("_", "-")) as part:
                    done = task(Share.PART, part=part).outputs[DONE["name"]]
                tasks[stage.name] = task(Share.JOIN, parts=dsl.Collected(done))
        if local:
            last.after(*tasks.values())

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    fields = [inspect.Parameter(each.name, kind, annotation=ANNOTATIONS[each.type]) for each in parameters]
    body.__signature__ = inspect.Signature(fields)  # type: ignore[attr-defined]
    body.__annotations__ = {each.name: each.annotation for each in fields}
    package = dsl.pipeline(name=title(pipeline.name), description=pipeline.description)(body)
    for each in parameters:
        field = package.pipeline_spec.root.input_definitions.parameters[each.name]
        field.description, field.is_optional = each.description, True
        json_format.ParseDict(each.default, field.default_value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "package.yaml"
        compiler.Compiler().compile(package, str(path))
        lines = path.read_text().splitlines(keepends=True)
    return HEADER.format(file=pipeline.file) + "".join(
        line for line in lines if not line.startswith("#")
    )  # Kubeflow's own is in no fixed order


def _shares(stage: Stage, local: bool) -> list[Share]:
    return [Share.WHOLE] if stage.meta.split == 1 or local else [Share.PART, Share.JOIN]


def _inputs(
    pipeline: Pipeline,
    stage: Stage,
    of_stages: list[Parameter],
    share: Share,
    given: dict[str, Any],
    tasks: dict[str, Any],
    image: str | None,
) -> dict[str, Any]:
    """What a stage's task is fed with, by those before it and by the form."""
    artifacts = {
        name: tasks[writer].outputs[identifier(out.path)] for name, (writer, out) in inputs_of(pipeline, stage).items()
    }
    values = {each.name: given[each.name] for each in takes(pipeline, stage, of_stages, share)}
    target = stage.meta.image
    values[IMAGE] = given.get(f"image_{target}", _static(image, target))
    return values if share is Share.JOIN else artifacts | values


def _dress(
    task: Any, name: str, meta: Any, given: dict[str, Any], image: str | None, secrets: dict[str, tuple[str, ...]]
) -> None:
    task.set_display_name(name)
    if image is None:
        task.set_container_image(given[f"image_{meta.image}"])
    place(task, meta, secrets)


def _notify_text(pipeline: Pipeline, image: str | None, local: bool) -> str:
    metrics = [
        f"{stage.name.partition('@')[2]}={out.path}".lstrip("=")  # stages of one `foreach` have metrics of one name
        for stage in pipeline.stages
        for out in stage.outs
        if out.kind == "Metrics"
    ]
    inputs = [] if local else [{"name": "status", "type": "PipelineTaskFinalStatus"}]
    inputs += [{"name": each.name, "type": each.type} for each in (PREFIX, EXPERIMENT, DATA_REV)]
    options = [f"--metrics={path}" for path in metrics]
    desc = "Tell how the run ended, and push its final metrics"
    return text("notify", desc, inputs, [], _static(image, NOTIFY.image), [*STEP, "notify", *options])


def _static(image: str | None, target: str) -> str:
    return (image or f"{REGISTRY}:{{target}}").replace("{target}", target)


def _load(component: str) -> Any:
    from kfp import components

    return components.load_component_from_text(component)
