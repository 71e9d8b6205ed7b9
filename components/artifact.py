"""What a step reads and writes on a cluster: the data below a URL, and a small pointer to it as the artifact.

A set of shards is its manifest, with absolute URLs: as an input it is read as it is, and the shards stream. Anything
else is a listing, `{"kind": "folder" | "file" | "nothing", "url", "files": [{"path", "bytes", "sha256"}]}`, and is
copied to where the step looks for it; of a step that was skipped there is nothing. Launchers copy every artifact, so
data itself is never one.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from oapseg import storage
from oapseg.shards.manifest import FILE_NAME, manifest_text, read_manifest

AT_ONCE = 8  # transfers

Item = TypeVar("Item")


def publish(path: Path, url: str, known: Mapping[str, str] | None = None) -> tuple[str, dict[str, Any]]:
    """Copy an out to its URL; its pointer, and what is said of it in the run.

    Files of `known` (sha256 by name) are there already, and a folder has no others then. The pointer is made once all
    are there. Errors: `ValueError` where the step did not write the out.
    """
    if not path.exists():
        raise ValueError(f"{path}: the step did not write it")
    hashes = dict(known or {})

    def send(name: str) -> None:
        hashes[name] = storage.upload(path / name, _below(url, name))

    if known is None:
        each(send, files_of(path))
    if (path / FILE_NAME).is_file():
        return point(str(path), url)
    files = [{"path": name, "bytes": (path / name).stat().st_size, "sha256": hashes[name]} for name in sorted(hashes)]
    found = {"kind": "folder" if path.is_dir() else "file", "url": url, "files": files}
    return json.dumps(found, indent=1) + "\n", {
        "url": url,
        "files": len(files),
        "bytes": sum(file["bytes"] for file in files),
    }


def point(location: str, url: str) -> tuple[str, dict[str, Any]]:
    """The pointer of a set of shards that lies at the URL, its manifest read from a location."""
    manifest, more = read_manifest(storage.join(location, FILE_NAME))  # `more` tells the version, where DVC has it
    shards = tuple(replace(shard, url=storage.join(url, shard.url)) for shard in manifest.shards)
    said = {"url": url, "photos": manifest.num_samples, "bytes": sum(shard.bytes for shard in shards)}
    return manifest_text(replace(manifest, shards=shards), **more), said


def listing(url: str, files: Mapping[str, str | None]) -> str:
    """The pointer of a folder with these files and their sha256; where that is not known, none is checked."""
    named = [{"path": name, "sha256": sha256} for name, sha256 in files.items()]
    return json.dumps({"kind": "folder" if named else "nothing", "url": url, "files": named}, indent=1) + "\n"


def is_nothing(text: str) -> bool:
    """Whether this is the pointer of a step that was skipped."""
    found: bool = json.loads(text).get("kind") == "nothing"
    return found


def lay(text: str, path: Path) -> None:
    """Put what a pointer points to at `path`.

    Errors: `ValueError` where it is no pointer, `OSError` where the data is gone or has changed since.
    """
    try:
        content = json.loads(text)
        if "shards" in content:
            storage.write_text(path / FILE_NAME, text)
            return
        url, kind = content["url"], content["kind"]
        files = {file["path"]: file["sha256"] for file in content["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its artifact is no pointer to data ({error!r})") from None
    if kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
    each(lambda name: storage.download(_below(url, name), path / name, files[name]), files)


def files_of(path: Path) -> list[str]:
    """Names of all files below a folder, sorted; of a file, the empty name."""
    if path.is_dir():
        return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return [""]


def each(do: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Do it with every item, a few at once; the first error is raised once those under way are done."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(do, item) for item in items]:
            try:
                future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _below(url: str, name: str) -> str:
    return storage.join(url, name) if name else url
