"""What a graph costs in AP: its masks and PyTorch's against labels, on the same photos, compared in pairs."""

import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from oapseg.checkpoint.model import Model
from oapseg.evaluate.ground_truth import all_labels, load_ground_truth
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.params import EvaluateParams, Params, SetParams, Source
from oapseg.params.use import ExportBoundParams
from oapseg.report.photos import spread
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.read import Photos
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set
from oapseg.use.onnx_model import OnnxModel
from oapseg.use.tasks import instances

BOUNDED: Final = "mask_AP"  # whose loss `export.bounds` limits
DIGITS = 3  # of percent
SAMPLE: Final = "the embedded sample, which is drawn: no real photos"


class Labelled(NamedTuple):
    """Photos with all that is labelled in them, as COCO has it; `place` says where they are from."""

    place: str
    truth: dict[str, Any]
    images: list[UInt8[Tensor, "_H _W 3"]]  # in the order of the truth's

    def some(self, count: int) -> "Labelled":
        """So many of them, spread evenly, with their labels. Errors: `ValueError` where none shows an instance."""
        places = spread(count, len(self.images))
        kept = [self.truth["images"][place] for place in places]
        ids = {each["id"] for each in kept}
        labels = [each for each in self.truth["annotations"] if each["image_id"] in ids]
        if not labels:
            raise ValueError(f"--labels: {self.place}: no photo of it shows a labelled instance")
        truth = self.truth | {"images": kept, "annotations": labels}
        return Labelled(self.place, truth, [self.images[place] for place in places])


def labelled(place: str | None, count: int, params: Params) -> Labelled:
    """So many labelled photos spread over a set of shards; of the embedded sample where none is named.

    Errors: `ValueError` where none of them shows a labelled instance.
    """
    if place is not None:
        return _chosen(load_manifest(place), count, place)
    with tempfile.TemporaryDirectory() as folder:
        return _chosen(_sample(Path(folder), params, count), count, SAMPLE)


def ap_of(model: Model | OnnxModel, photos: Labelled, params: EvaluateParams) -> dict[str, Measured]:
    """Class-agnostic mask AP, AP50 and AR, as shares, with what they are on every resample of the photos."""
    found = []
    for image, predicted in zip(photos.truth["images"], model.predict(photos.images), strict=True):
        found += instances(image["id"], predicted, {}, 0.0)
    draws = resample_photos(len(photos.images), params.bootstrap, params.bootstrap_seed)
    scores = score_class_agnostic(find_overlaps(by_photo(photos.truth, found)), draws, params.max_dets)
    return {name: scores[name] for name in (BOUNDED, "mask_AP50", f"mask_AR{params.max_dets}")}


def percent(scores: dict[str, Measured]) -> dict[str, float]:
    return {name: round(100 * score.value, DIGITS) for name, score in scores.items()}


def differences(after: dict[str, Measured], before: dict[str, Measured]) -> dict[str, dict[str, float | None]]:
    """By how many points of percent each score exceeds the other's, with the ends of the paired 95 % interval."""
    said: dict[str, dict[str, float | None]] = {}
    for name in after:
        paired = gain(after[name], before[name])
        low, high = paired.interval() or (None, None)
        said[name] = {key: _points(share) for key, share in (("value", paired.value), ("low", low), ("high", high))}
    return said


def losses(difference: dict[str, dict[str, float | None]], bound: ExportBoundParams) -> list[str]:
    """What costs more than the bound allows, in words. A value that is no number does."""
    value = difference[BOUNDED]["value"]
    if value is not None and -value <= bound.max_loss:
        return []
    return [f"{BOUNDED} differs by {value:+.2f} points, beyond max_loss {bound.max_loss:g}"]


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, DIGITS)


def _chosen(manifest: Manifest, count: int, place: str) -> Labelled:
    numbers = [number for number, labels in enumerate(all_labels(manifest)) if "instances" in labels]
    samples = list(Photos(manifest).each([numbers[each] for each in spread(count, len(numbers))]))
    ids = [sample.labels["image_id"] for sample in samples]
    truth = load_ground_truth(manifest)
    known = {each["id"]: each for each in truth["images"]}
    photos = truth | {"images": [known[each] for each in ids]}
    return Labelled(place, photos, [sample.image for sample in samples]).some(count)


def _sample(folder: Path, params: Params, count: int) -> Manifest:
    """The embedded sample's validation photos: photo n is the same whatever their number."""
    drawn = params.sample.model_copy(update={"train": 1, "val": count})
    make_sample(folder / "sample", drawn, seed=params.seed, workers=1)
    listing = SetParams(root=str(folder / "sample"), sources=[Source(kind="coco", path=".", split="val")])
    return write_set(
        list_set(listing), str(folder / "shards"), samples_per_shard=count, max_broken=0.0, max_pixels=10**8, workers=1
    )
