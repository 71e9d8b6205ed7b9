"""Where a model came from: code, parameters and data, as they were."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from oapseg import storage
from oapseg.shards.manifest import FILE_NAME, read_manifest

UNKNOWN = "unknown"
IMAGE_COMMIT, DIRTY = "OAPSEG_GIT_COMMIT", "-dirty"
RUN, IMAGE, DATA_REV = "OAPSEG_RUN", "OAPSEG_IMAGE", "OAPSEG_DATA_REV"  # of the environment, as an engine says it


@dataclass(frozen=True)
class Lineage:
    """`data` maps the name of a set of shards to the hash of their content, the same whatever engine wrote them where.

    `dvc` has those that DVC tracks, by its hash of their folder. The parent is the model that the training went on
    from. What does not apply is empty.
    """

    commit: str
    dirty: bool
    params_sha256: str
    data: dict[str, str]
    weights_sha256: str = ""
    parent_sha256: str = ""  # of the parent's weights
    run: str = ""  # id of the pipeline run
    image: str = ""  # that the version was registered in, with its digest where the engine names it by one
    dvc: dict[str, str] = field(default_factory=dict)
    data_rev: str = ""  # git revision of the data from outside the pipeline, as the run was told

    def tags(self) -> dict[str, str]:
        """The same as flat text, as a registry keeps it."""
        known = {
            "weights_sha256": self.weights_sha256,
            "parent_weights_sha256": self.parent_sha256,
            "pipeline_run": self.run,
            "image": self.image,
            "data_rev": self.data_rev,
        }
        return {
            "git_commit": self.commit,
            "git_dirty": str(self.dirty).lower(),
            "params_sha256": self.params_sha256,
            **{f"data.{name}": version for name, version in self.data.items()},
            **{f"dvc.{name}": version for name, version in self.dvc.items()},
            **{key: value for key, value in known.items() if value},
        }


def trace(model: Path, shards: Iterable[str], parent: Path | None = None, lock: Path = Path("dvc.lock")) -> Lineage:
    """The lineage of a model's folder, run from the clone that made it; `parent` is the folder of what it began from.

    Pipeline run, image and revision of the data are what the environment says (`OAPSEG_RUN`, `OAPSEG_IMAGE`,
    `OAPSEG_DATA_REV`).

    Errors: `ValueError` as `data_versions`.
    """
    commit, dirty = git_state()
    versions = data_versions(shards, lock)
    return Lineage(
        commit=commit,
        dirty=dirty,
        params_sha256=storage.sha256(model / "params.yaml"),
        data={name: sha256 for name, (sha256, _) in versions.items()},
        dvc={name: md5 for name, (_, md5) in versions.items() if md5},
        weights_sha256=storage.sha256(model / "model.safetensors"),
        parent_sha256="" if parent is None else storage.sha256(parent / "model.safetensors"),
        run=os.environ.get(RUN, ""),
        image=os.environ.get(IMAGE, ""),
        data_rev=os.environ.get(DATA_REV, ""),
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


def data_versions(shards: Iterable[str], lock: Path) -> dict[str, tuple[str, str]]:
    """`data_version` of each set by its name; the same content in several places counts once.

    Errors: `ValueError` where sets of one name differ, as a version says one thing alone of a name.
    """
    found: dict[str, tuple[str, str]] = {}
    places: dict[str, str] = {}
    for folder in shards:
        name, (sha256, md5) = set_name(folder), data_version(folder, lock)
        known, known_md5 = found.get(name, (sha256, md5))
        if known != sha256:
            raise ValueError(
                f"--shards: {places[name]} and {folder} are both called {name} and differ ({known} and {sha256}); "
                "the name of a set is its folder's: give one of them another"
            )
        found[name] = sha256, known_md5 or md5
        places.setdefault(name, folder)
    return found


def data_version(shards: str, lock: Path) -> tuple[str, str]:
    """`sha256:` over the shards of a set, and `md5:` of DVC, empty where it does not track them.

    The first is the same wherever the shards lie, and whoever wrote them. DVC's is the folder's in its lock, or that of
    the nearest folder above; or what a manifest says that `oapseg data resolve` or `pipelines submit` wrote.
    """
    folder = shards.removesuffix(FILE_NAME).rstrip("/") or "."
    manifest, more = read_manifest(storage.join(folder, FILE_NAME))
    recorded = {} if storage.is_url(folder) else _dvc_hashes(lock)
    places = (str(place) for place in (Path(folder), *Path(folder).parents))
    md5 = next((recorded[place] for place in places if place in recorded), more.get("dvc", {}).get("md5", ""))
    return f"sha256:{manifest.sha256}", md5 and f"md5:{md5}"


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
