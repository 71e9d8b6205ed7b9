"""The labels of a set of shards as one COCO data set, which any COCO tool reads."""

import json
from collections.abc import Iterator
from typing import Any

from oapseg import storage
from oapseg.shards.manifest import Manifest


def load_ground_truth(manifest: Manifest) -> dict[str, Any]:
    """`images`, `annotations` and `categories` of the photos that carry instance labels; no photo is decoded.

    A photo that carries none is left out; one that is labelled and shows nothing stays, since masks on it are wrong.
    Each image says its `index` in the set.

    Errors: `ValueError` where no photo of the set is labelled, or two have one COCO id.
    """
    images: dict[int, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for index, labels in enumerate(_labels(manifest)):
        if "instances" not in labels:
            continue
        image_id, name = labels["image_id"], labels["name"]
        if image_id in images:
            both = f"{images[image_id]['file_name']} and {name}"
            raise ValueError(f"{manifest.location}: {both} are both image {image_id}; score the two sources apart")
        size = {"width": labels["width"], "height": labels["height"]}
        images[image_id] = {"id": image_id, "file_name": name, "index": index, **size}
        annotations += [each | {"image_id": image_id} for each in labels["instances"]]
    if not images:
        found = ", ".join(manifest.labels) or "none"
        raise ValueError(
            f"{manifest.location}: no instance labels to score against (labels: {found}); "
            "set shards.sets.val to a labelled source, such as kind: coco"
        )
    numbered = [annotation | {"id": number} for number, annotation in enumerate(annotations, 1)]
    return {"images": list(images.values()), "annotations": numbered, "categories": list(manifest.categories)}


def _labels(manifest: Manifest) -> Iterator[dict[str, Any]]:
    spans = (
        (manifest.url(number), offset.json_offset, offset.json_length)
        for number, shard in enumerate(manifest.shards)
        for offset in shard.offsets
    )
    return map(json.loads, storage.read_ranges(spans))
