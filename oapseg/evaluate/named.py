"""Names of clusters in predictions that are there already: `cluster_name` beside the number, with nothing made anew."""

from collections.abc import Mapping
from typing import Any, Final

from oapseg import storage
from oapseg.evaluate.predictions import Predictions, write_results

NAMES: Final = "names.json"  # those that the results of a folder carry


def name_results(folder: str, names: Mapping[int, str]) -> None:
    """Give each result of a model the name of its cluster, or take it away where the cluster has none any more.

    `names.json` is written last: what a kill left half done is done again.
    """
    path, said = storage.join(folder, NAMES), {str(number): name for number, name in names.items()}
    if said == (storage.read_json(path) if storage.exists(path) else {}):
        return
    for part in Predictions(folder).parts:
        location = storage.join(folder, part)
        write_results(location, (_named(result, names) for result in storage.read_json(location)))
    storage.write_json(path, said)


def _named(result: dict[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    bare = {key: value for key, value in result.items() if key != "cluster_name"}
    name = names.get(result["category_id"])
    return bare if name is None else bare | {"cluster_name": name}
