"""The labels of a set of shards, photo by photo, and as one COCO data set, which any COCO tool reads."""

import json
from collections.abc import Iterator
from typing import Any

from oapseg import storage
from oapseg.shards.manifest import Manifest


def shard_labels(manifest: Manifest, number: int) -> Iterator[dict[str, Any]]:
    """The labels of the photos of one shard, in order; no photo is decoded."""
    url = manifest.url(number)
    spans = ((url, offset.json_offset, offset.json_length) for offset in manifest.shards[number].offsets)
    return map(json.loads, storage.read_ranges(spans))


def all_labels(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The labels of all photos of a set, in order."""
    for number in range(len(manifest.shards)):
        yield from shard_labels(manifest, number)


def load_ground_truth(manifest: Manifest) -> dict[str, Any]:
    """`images`, `annotations` and `categories` of the photos that carry instance labels.

    A photo that carries none is left out; one that is labelled and shows nothing stays, since masks on it are wrong.

    Errors: `ValueError` where two photos have one COCO id.
    """
    images: dict[int, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for labels in all_labels(manifest):
        if "instances" not in labels:
            continue
        image_id, name = labels["image_id"], labels["name"]
        if image_id in images:
            both = f"{images[image_id]['file_name']} and {name}"
            raise ValueError(f"{manifest.location}: {both} are both image {image_id}; score the two sources apart")
        images[image_id] = {"id": image_id, "file_name": name, "width": labels["width"], "height": labels["height"]}
        annotations += [each | {"image_id": image_id} for each in labels["instances"]]
    numbered = [annotation | {"id": number} for number, annotation in enumerate(annotations, 1)]
    return {"images": list(images.values()), "annotations": numbered, "categories": list(manifest.categories)}
