"""Generators as steps and commands use them: by name, with the networks that one of them may ask."""

from dataclasses import dataclass
from typing import Any

from oapseg import storage
from oapseg.checkpoint.export import HASHES, read_files
from oapseg.checkpoint.model import Model, model_of
from oapseg.encode.encoder import Encoder, encoder_hash
from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, Masks
from oapseg.params import Params
from oapseg.pool import GENERATORS
from oapseg.pool.concept_generator import encoder_of
from oapseg.pool.generator import Generator

NETWORKS = ("weights", "divider")  # keys of generators' sections that name a file of weights or a model's folder


@dataclass(frozen=True)
class Objects:
    """The instance masks of a trained model, by which divide-and-conquer divides a photo."""

    model: Model

    def __call__(self, photo: Patches) -> Masks:
        """Errors: `ValueError` where features come without their photo."""
        if photo.image is None:
            raise ValueError("pool.divide_conquer.divider: a model looks at photos, and these features come without")
        [masks] = self.model([photo.image])
        return Masks(*(field.to(photo.features.device) for field in masks.select(masks.kind == INSTANCE)))


def check_name(name: str, key: str | None = None) -> None:
    """Errors: `ValueError` where there is no generator of that name, which `key` of params.yaml gave."""
    if name not in GENERATORS:
        given = "" if key is None else f"{key}: "
        raise ValueError(f"{given}no generator {name!r}; allowed are {', '.join(GENERATORS)}")


def settings_of(name: str, params: Params, encoder: Encoder) -> dict[str, Any]:
    """A generator's section of `pool` as it works with an encoder: what is encoded anew is so in whole patches."""
    settings = dict(params.pool[name])
    if name == "divide_conquer" and settings["encode"]:
        settings["crop_px"] = max(encoder.patch_px, settings["crop_px"] // encoder.patch_px * encoder.patch_px)
    return settings


def rounded(name: str, params: Params, encoder: Encoder) -> str | None:
    """What of a generator's settings is not as its section says, in words; nothing where all is."""
    given, used = params.pool[name], settings_of(name, params, encoder)
    changed = [
        f"{name}: {key} is {used[key]}, pool.{name}.{key} of {given[key]} in patches of {encoder.patch_px} px"
        for key in used
        if used[key] != given[key]
    ]
    return "; ".join(changed) or None


def make_generator(name: str, params: Params, encoder: Encoder) -> Generator:
    """A generator from its section of `pool`; `encoder` is the one whose features it will pool.

    Errors: `ValueError` where a network that the section names is not there, or says that it is for another encoder.
    """
    settings = settings_of(name, params, encoder)
    if name == "acseg" and storage.exists(weights := settings["weights"]):
        made_for = encoder_of(weights)
        if made_for is not None and made_for != encoder_hash(encoder):
            raise ValueError(f"pool.acseg.weights: {weights} was trained for another encoder; train with this one")
    if name == "divide_conquer":
        if (divider := settings["divider"]) is not None:
            settings["divider"] = Objects(model_of(read_files(divider), encoder.mean.device, divider))
        settings["encode"] = settings["encode"] and encoder.patches
    generator: Generator = GENERATORS[name](**settings)
    return generator


def decided_by(name: str, params: Params) -> list[Any]:
    """All that decides a generator's masks beside photos and encoder: its settings, and hashes of its networks.

    Errors: `ValueError` where a network is not there.
    """
    settings = params.pool[name].model_dump(mode="json")
    return [settings, *(_network_hash(name, key, settings.pop(key)) for key in NETWORKS if settings.get(key))]


def _network_hash(name: str, key: str, location: str) -> str:
    """The hash of the file of weights, or of the model's folder, that a generator's key names."""
    place = storage.join(location, HASHES) if key == "divider" else location
    if not storage.exists(place):
        how = "; generators/dvc.yaml has the step that trains one" if key == "weights" else ""
        raise ValueError(f"pool.{name}.{key}: no file {place}{how}")
    return storage.sha256(place)
