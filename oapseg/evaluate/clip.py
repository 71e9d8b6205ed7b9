"""A CLIP that names things: a network for what is seen, and the direction of each name in the space that it sees in.

Two makes: both towers of a model of open_clip, whose text tower embeds the names by prompts; or an image tower of timm
beside text embeddings from a file, since timm has no text towers. Everything runs on the CPU, as all scoring does.
"""

import json
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from oapseg import storage
from oapseg.params import TextParams

ENDINGS = re.compile(r"(-(other|merged|stuff|things|tile|wood|concrete))+$")  # of COCO's names
UNFIT = (  # of a file that is cut short, no state of a network, or that of another one
    *(RuntimeError, LookupError, ValueError, AssertionError, EOFError, OSError),
    *(AttributeError, TypeError, pickle.UnpicklingError, SafetensorError),
)


class Clip(NamedTuple):
    """What is needed to name a view; `classes` have unit length."""

    see: Callable[[Float[Tensor, "S 3 h w"]], Float[Tensor, "S D"]]
    classes: Float[Tensor, "M D"]
    size: tuple[int, int]  # of a view
    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]
    said: str  # what it is, in words


def load_clip(params: TextParams, names: Sequence[str]) -> Clip:
    """The CLIP that section `evaluate.text` names, for these classes.

    Errors: `ValueError` of one line where a file or package is missing, or they do not go together.
    """
    for key in ("weights", "embeddings"):
        file = params[key]
        if (file is None and key == "weights") or (file is not None and not Path(file).is_file()):
            raise ValueError(f"evaluate.text.{key}: {file}: no such file; weights: null turns naming off")
    said = f"CLIP {params.model} (weights {storage.sha256(str(params.weights))[:12]})"
    if params.embeddings is None:
        return _both_towers(params, names, f"{said}, prompts: {', '.join(params.templates)}")
    return _image_tower(params, names, f"{said}, text embeddings {storage.sha256(params.embeddings)[:12]}")


def readable(name: str) -> str:
    """A class's name as a prompt says it: `wall-other-merged` is a wall."""
    return ENDINGS.sub("", name).replace("_", " ").replace("-", " ")


def _both_towers(params: TextParams, names: Sequence[str], said: str) -> Clip:
    try:
        import open_clip
    except ImportError:
        raise ValueError(
            "evaluate.text: needs open_clip, `pip install open_clip_torch`; or set evaluate.text.embeddings, and "
            "evaluate.text.model to an image tower of timm"
        ) from None
    if params.model not in open_clip.list_models():
        raise ValueError(f"evaluate.text.model: open_clip has no {params.model!r}; `open_clip.list_models()` has all")
    try:
        model = open_clip.create_model(params.model, pretrained=params.weights, device="cpu").eval()
    except UNFIT as error:
        raise _no_weights(params, error) from None
    size, tokenizer = model.visual.image_size, open_clip.get_tokenizer(params.model)
    with torch.inference_mode():
        prompts = ([each.format(readable(name)) for each in params.templates] for name in names)
        embedded = [F.normalize(model.encode_text(tokenizer(each)).float(), dim=-1).mean(0) for each in prompts]
    return Clip(
        model.encode_image,
        F.normalize(torch.stack(embedded), dim=-1),
        (size, size) if isinstance(size, int) else (size[0], size[1]),
        *_mean_and_std(model.visual.preprocess_cfg),
        said,
    )


def _image_tower(params: TextParams, names: Sequence[str], said: str) -> Clip:
    classes = _given(str(params.embeddings), names)
    if not timm.is_model(params.model) or not timm.is_model_pretrained(params.model):
        raise ValueError(
            f"evaluate.text.model: timm has no {params.model!r}, which evaluate.text.embeddings asks for; "
            "`timm.list_models('*clip*')` has its image towers"
        )
    # The width said in both places, or timm would leave out a projection of another width and go on without it.
    width = classes.shape[1]
    given = {"file": params.weights, "hf_hub_id": None, "url": "", "num_classes": width}
    try:
        model = timm.create_model(params.model, pretrained=True, num_classes=width, pretrained_cfg_overlay=given)
    except UNFIT as error:
        raise _no_weights(params, error) from None
    config = model.pretrained_cfg
    _, height, length = config["input_size"]
    return Clip(model.eval(), classes, (height, length), *_mean_and_std(config), said)


def _given(file: str, names: Sequence[str]) -> Float[Tensor, "M D"]:
    """The embeddings of the classes from a file, each by its name or by that name in words."""
    try:
        with safe_open(file, framework="pt") as content:
            listed = json.loads((content.metadata() or {})["names"])
            embeddings: Tensor = content.get_tensor("embeddings").float()
        places = {name: place for place, name in enumerate(listed)}
        if embeddings.ndim != 2 or len(embeddings) != len(listed):
            raise ValueError(f"{len(listed)} names and embeddings of shape {tuple(embeddings.shape)}")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"evaluate.text.embeddings: {file}: must be a safetensors file of `embeddings`, a row a name, with the "
            f"names as a JSON list in its metadata `names` ({_one_line(error)})"
        ) from None
    found = [places.get(name, places.get(readable(name))) for name in names]
    if absent := [name for name, place in zip(names, found, strict=True) if place is None]:
        raise ValueError(f"evaluate.text.embeddings: {file}: no embedding of {', '.join(absent[:5])}")
    return F.normalize(embeddings[found], dim=-1)


def _mean_and_std(config: dict[str, Any]) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    return mean, std


def _no_weights(params: TextParams, error: Exception) -> ValueError:
    reason = _one_line(error)
    return ValueError(f"evaluate.text.weights: {params.weights}: no weights of {params.model} ({reason})")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
