"""Where a model came from: code, parameters and data, as they were."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from oapseg import storage
from oapseg.shards.manifest import FILE_NAME, load_manifest

UNKNOWN = "unknown"
IMAGE_COMMIT, DIRTY = "OAPSEG_GIT_COMMIT", "-dirty"
RUN, IMAGE = "OAPSEG_RUN", "OAPSEG_IMAGE"


@dataclass(frozen=True)
class Lineage:
    """`data` maps the name of a set of shards to its version: `md5:` of DVC's lock, or `sha256:` of its shards.

    The parent is the model that the training went on from. What does not apply is empty.
    """

    commit: str
    dirty: bool
    params_sha256: str
    data: dict[str, str]
    weights_sha256: str = ""
    parent_sha256: str = ""  # of the parent's weights
    run: str = ""  # id of the pipeline run
    image: str = ""  # with its digest, where it is named by it

    def tags(self) -> dict[str, str]:
        """The same as flat text, as a registry keeps it."""
        known = {
            "weights_sha256": self.weights_sha256,
            "parent_weights_sha256": self.parent_sha256,
            "pipeline_run": self.run,
            "image": self.image,
        }
        return {
            "git_commit": self.commit,
            "git_dirty": str(self.dirty).lower(),
            "params_sha256": self.params_sha256,
            **{f"data.{name}": version for name, version in self.data.items()},
            **{key: value for key, value in known.items() if value},
        }


def trace(model: Path, shards: Iterable[str], parent: Path | None = None, lock: Path = Path("dvc.lock")) -> Lineage:
    """The lineage of a model's folder, run from the clone that made it; `parent` is the folder of what it began from.

    The pipeline run and the image are what the environment says (`OAPSEG_RUN`, `OAPSEG_IMAGE`).
    """
    commit, dirty = git_state()
    return Lineage(
        commit=commit,
        dirty=dirty,
        params_sha256=storage.sha256(model / "params.yaml"),
        data={set_name(folder): data_version(folder, lock) for folder in shards},
        weights_sha256=storage.sha256(model / "model.safetensors"),
        parent_sha256="" if parent is None else storage.sha256(parent / "model.safetensors"),
        run=os.environ.get(RUN, ""),
        image=os.environ.get(IMAGE, ""),
    )


def git_state() -> tuple[str, bool]:
    """Commit of the working tree, and whether tracked files differ from it; (`unknown`, False) outside of a clone.

    An image, which has no git, says it by `OAPSEG_GIT_COMMIT`, with `-dirty` at its end where files differed.
    `dvc.lock` does not count: the very run that is being registered rewrites it.
    """
    if built := os.environ.get(IMAGE_COMMIT):
        return built.removesuffix(DIRTY), built.endswith(DIRTY)
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN, False
    return commit, bool(changes)


def data_version(shards: str, lock: Path) -> str:
    """DVC's hash of a folder of shards, or of the nearest folder above that DVC tracks; else a hash of all shards'.

    The manifest's own would change with the place where the shards lie.
    """
    folder = shards.removesuffix(FILE_NAME)
    recorded = {} if storage.is_url(folder) else _dvc_hashes(lock)
    for place in (Path(folder), *Path(folder).parents):
        if str(place) in recorded:
            return f"md5:{recorded[str(place)]}"
    return f"sha256:{load_manifest(shards).sha256}"


def set_name(shards: str) -> str:
    """The name of a set of shards: its folder."""
    return shards.removesuffix(FILE_NAME).rstrip("/").rsplit("/", 1)[-1]


def content_sha256(model: Path, scores: Mapping[str, str | Path]) -> str:
    """One hash over every file of a model's folder and its files of scores: the same model measured the same way."""
    files: dict[str, str | Path] = {
        path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()
    }
    files |= {f"scores {name}": scores[name] for name in sorted(scores)}
    lines = [f"{storage.sha256(path)}  {name}\n" for name, path in files.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _dvc_hashes(lock: Path) -> dict[str, str]:
    """Hash by path of everything that the stages of a `dvc.lock` read and wrote; nothing where there is no lock."""
    if not lock.is_file():
        return {}
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}).values()
    entries = [entry for stage in stages for entry in [*stage.get("deps", []), *stage.get("outs", [])]]
    return {entry["path"].rstrip("/"): entry["md5"] for entry in entries if "md5" in entry}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()
