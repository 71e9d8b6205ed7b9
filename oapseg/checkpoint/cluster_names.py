"""Names that people give to a model's clusters, in its folder's `clusters.json`: a name or null by number, as text."""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oapseg import storage
from oapseg.checkpoint.export import CLUSTERS, HASHES, json_bytes

LETTERS: Final = 60  # of a name


def parse_names(content: bytes, origin: str) -> dict[int, str | None]:
    """Names by cluster from JSON such as `{"12": "dog", "7": null}`; null takes a name away.

    Errors: `ValueError` of one line, which names the cluster, for what is no number or no name.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if [each for each, _ in pairs].count(key) > 1)
            raise ValueError(f"cluster {twice} is named twice")
        return found

    try:
        named = json.loads(content, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{origin}: {'not JSON: ' * isinstance(error, json.JSONDecodeError)}{error}") from None
    if not isinstance(named, dict):
        raise ValueError(f'{origin}: must be an object such as {{"12": "dog"}}, is {type(named).__name__}')
    return {_number(key, origin): _name(key, value, origin) for key, value in named.items()}


def read_names(folder: str | Path) -> dict[int, str]:
    """The clusters of a model that have a name. Errors: `ValueError` where its `clusters.json` is no such file."""
    path = storage.join(folder, CLUSTERS)
    return {number: name for number, name in parse_names(storage.read_bytes(path), path).items() if name is not None}


def name_clusters(folder: str | Path, names: Mapping[int, str | None]) -> dict[int, str]:
    """Save names to the model, beside those it has; the clusters that have one now.

    `clusters.json` is replaced whole, then its hash in `sha256.json`. A kill between the two leaves a model that does
    not load; naming it again mends it.

    Errors: `ValueError` where it is no model folder, another file of it was changed, or it has no such cluster.
    """
    hashes = _checked(folder)
    path = storage.join(folder, CLUSTERS)
    had = parse_names(storage.read_bytes(path), path)
    if unknown := sorted(names.keys() - had.keys()):
        listed = ", ".join(str(number) for number in unknown[:10]) + (" ..." if len(unknown) > 10 else "")
        raise ValueError(f"no cluster {listed} in {folder}; it has 0 to {max(had, default=-1)}")
    now = had | dict(names)
    storage.write_bytes(path, json_bytes({str(number): name for number, name in now.items()}))
    storage.write_json(storage.join(folder, HASHES), hashes | {CLUSTERS: storage.sha256(path)})
    return {number: name for number, name in sorted(now.items()) if name is not None}


def _checked(folder: str | Path) -> dict[str, str]:
    """The hashes of a model folder, of which all but that of the names hold."""
    sealed = storage.join(folder, HASHES)
    if not storage.exists(sealed) or not storage.exists(storage.join(folder, CLUSTERS)):
        raise ValueError(f"{folder}: no model folder: {HASHES} and {CLUSTERS} are not both in it")
    hashes: dict[str, str] = storage.read_json(sealed)
    for name, digest in hashes.items():
        file = storage.join(folder, name)
        if not storage.exists(file):
            raise ValueError(f"{folder}: {name} is missing")
        if name != CLUSTERS and storage.sha256(file) != digest:
            raise ValueError(f"{folder}: {name} was changed (sha256 differs)")
    return hashes


def _number(key: str, origin: str) -> int:
    if not (key.isascii() and key.isdigit() and key == str(int(key))):
        raise ValueError(f"{origin}: {key!r} is no cluster; allowed are numbers from 0")
    return int(key)


def _name(key: str, value: Any, origin: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value.strip()) <= LETTERS:
        raise ValueError(f"{origin}: the name of cluster {key} must be text of 1 to {LETTERS} letters, or null")
    if any(unicodedata.category(letter).startswith("C") for letter in value.strip()):
        raise ValueError(f"{origin}: the name of cluster {key} holds a control character or line break")
    return value.strip()
