"""`dvc.yaml` as DVC reads it: templates resolved, `foreach` unfolded, parameters overridden as by `dvc exp run -S`."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oapseg.params import parse_params

ROOT = Path(__file__).parents[1]
MAIN = "oapseg"  # the pipeline of the clone's own `dvc.yaml`; any other has the name of its folder

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")]
Count = Annotated[int, Field(ge=1)]


class Meta(BaseModel):
    """What a stage asks of a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # target of the Dockerfile
    node_pool: str
    cpu: Count
    memory: Size
    gpus: Annotated[int, Field(ge=0)] = 0
    accelerator: str = "nvidia.com/gpu"  # resource name of one of `gpus`
    shm: Size | None = None  # of /dev/shm, which loaders' processes share
    retries: Annotated[int, Field(ge=0)]
    backoff_s: Count = 60  # before the first retry; doubles with each, an hour at most
    timeout_s: Count | None = None  # of one try
    cache: bool = True  # false: the step runs even where its inputs have not changed
    downloads: bool = False  # whether it keeps downloaded weights on the volume for caches
    data: bool = False  # whether it reads folder `data` of the volume for data sets
    optional: bool = False  # where the data that it is for are not there, it is skipped and the run goes on
    pages: list[str] = []  # files of its outs that the UI shows, .html or .md
    split: Count = 1  # workers that share the stage, which takes --part I/N and --join
    nodes: Count = 1  # machines of one training

    @model_validator(mode="after")
    def _split_or_nodes(self) -> "Meta":
        if self.split > 1 and self.nodes > 1:
            raise ValueError("split and nodes do not go together")
        return self


class Out(BaseModel):
    """What a stage writes; `kind` as Kubeflow names it."""

    model_config = ConfigDict(frozen=True)

    path: str
    kind: Literal["Artifact", "Dataset", "Model", "Metrics", "HTML", "Markdown"] = "Artifact"
    persist: bool = False


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline; `fixed` are the parameters that its `cmd` is made of, by dotted key."""

    name: str
    desc: str
    cmd: str
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[Out, ...]
    meta: Meta
    fixed: dict[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """Stages in an order that they can run in; `sources[stage][dep]`: the stages and outs that a dep comes from."""

    name: str
    description: str
    file: str  # relative to the clone
    stages: tuple[Stage, ...]
    sources: dict[str, dict[str, list[tuple[str, Out]]]]
    params: dict[str, Any]
    params_yaml: str

    def upstream(self, name: str) -> set[str]:
        """The stages that one reads from."""
        return {writer for writers in self.sources[name].values() for writer, _ in writers}

    def external(self, name: str) -> list[str]:
        """What a stage reads and no stage writes."""
        return [dep for dep, writers in self.sources[name].items() if not writers]


def pipeline_files(root: Path = ROOT) -> dict[str, str]:
    """Every `dvc.yaml` with stages, in the clone and in its folders, by the name of its pipeline; the clone's first."""
    files = {MAIN: "dvc.yaml"}
    for path in sorted(root.glob("[!.]*/dvc.yaml")):
        if "stages" in (yaml.safe_load(path.read_text()) or {}):
            files[path.parent.name] = path.relative_to(root).as_posix()
    return files


def read_pipeline(root: Path = ROOT, overrides: Sequence[str] = (), name: str = MAIN) -> Pipeline:
    """A pipeline of a clone, with parameters overridden; the clone itself is not touched.

    Paths are relative to the clone, so a `dvc.yaml` in a folder has `wdir: ..`; what another pipeline writes is data
    from outside. A frozen stage (`dvc freeze`) is no task: what it wrote is data from outside too.

    Errors: `ValueError` where an override or `dvc.yaml` is wrong, naming the stage and the key.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.utils.hydra import apply_overrides

    files = pipeline_files(root)
    if name not in files:
        raise ValueError(f"no pipeline {name}; there are {', '.join(files)}")
    file = files[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        (copy / file).parent.mkdir(exist_ok=True)
        for each in (file, "params.yaml"):
            shutil.copyfile(root / each, copy / each)
        (copy / ".dvc").mkdir()
        (copy / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        try:
            if overrides:
                apply_overrides(copy / "params.yaml", list(overrides))
                parse_params(yaml.safe_load((copy / "params.yaml").read_text()), "params.yaml")
            with Repo(str(copy)) as repo:
                stages = [_stage(found, copy, file) for found in repo.index.stages if not found.frozen]
        except DvcException as error:
            cause = error.__cause__ or error.__context__
            line = " ".join(f"{error}{f' ({cause})' if cause else ''}".split())
            raise ValueError(line.replace(f"{os.path.relpath(copy)}/", "")) from None
        text = (copy / "params.yaml").read_text()
    sources = {stage.name: {dep: _writers(dep, stage, stages) for dep in stage.deps} for stage in stages}
    upstream = {
        stage: sorted({writer for found in deps.values() for writer, _ in found}) for stage, deps in sources.items()
    }
    by_name = {stage.name: stage for stage in stages}
    try:
        order = TopologicalSorter(upstream).static_order()
        ordered = tuple(by_name[stage] for stage in order)
        described = _description((root / file).read_text())
        return Pipeline(name, described, file, ordered, sources, yaml.safe_load(text), text)
    except CycleError as error:
        raise ValueError(f"{file}: stages wait for each other: {' -> '.join(error.args[1])}") from None


def identifier(text: str) -> str:
    """A path or dotted key as a name that Kubeflow takes: `work/shards/val` is `work_shards_val`."""
    return re.sub(r"[^A-Za-z0-9]", "_", text)


def _description(text: str) -> str:
    """What the first line of a `dvc.yaml` says, which is a comment."""
    return text.partition("\n")[0].lstrip("# ").rstrip(":. ")


def _stage(found: Any, root: Path, file: str) -> Stage:
    if Path(found.wdir).resolve() != root:
        raise ValueError(f"{file}: stage {found.name}: wdir must be the clone's root (`..` in a folder of it)")
    try:
        meta = Meta.model_validate(dict(found.meta or {}))
        pages = [Out(path=page, kind="HTML" if page.endswith(".html") else "Markdown") for page in meta.pages]
        outs = [_out(out) for out in found.outs]
    except ValidationError as error:
        where = error.title.lower()
        wrong = "; ".join(f"{where}.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(f"{file}: stage {found.name}: {wrong}") from None
    return Stage(
        name=found.name,
        desc=found.desc or "",
        cmd=found.cmd,
        params=tuple(key for dep in found.deps for key in getattr(dep, "params", [])),
        deps=tuple(dep.def_path for dep in found.deps if not getattr(dep, "params", [])),
        outs=(*outs, *pages),
        meta=meta,
        fixed={key: value for values in found.tracked_vars.values() for key, value in values.items()},
    )


def _out(out: Any) -> Out:
    kind = "Metrics" if out.metric else str(out.annot.type or "artifact").capitalize()
    return Out.model_validate({"path": out.def_path, "kind": kind, "persist": out.persist})


def _writers(dep: str, reader: Stage, stages: Sequence[Stage]) -> list[tuple[str, Out]]:
    """Who writes a dep, a part of it or what it lies in. Pages are for eyes, not for stages."""
    return [
        (stage.name, out)
        for stage in stages
        if stage is not reader
        for out in stage.outs
        if out.path not in stage.meta.pages and (_inside(dep, out.path) or _inside(out.path, dep))
    ]


def _inside(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
