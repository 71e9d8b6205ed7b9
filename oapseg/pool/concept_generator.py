"""The Adaptive Concept Generator: prototypes become the concepts of a photo by attention (ACSeg, section 3.2)."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from oapseg import storage

HEADER = "concept_generator"
ENCODER = "encoder"  # its hash, beside the sizes: one value, as safetensors writes several in any order


@dataclass(frozen=True)
class Size:
    """What the weights' shapes follow from; kept in the weights' file."""

    channels: int  # of the encoder
    prototypes: int
    updates: int
    heads: int
    ffn: int  # channels of the feed-forward networks


class Update(nn.Module):
    """Cross-attention to the patches, self-attention and feed-forward, each added and normalised (Eq. 1-4)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.cross = nn.MultiheadAttention(size.channels, size.heads, batch_first=True)
        self.own = nn.MultiheadAttention(size.channels, size.heads, batch_first=True)
        self.ffn = nn.Sequential(nn.Linear(size.channels, size.ffn), nn.ReLU(), nn.Linear(size.ffn, size.channels))
        self.norms = nn.ModuleList(nn.LayerNorm(size.channels) for _ in range(3))

    def forward(self, concepts: Float[Tensor, "B K C"], features: Float[Tensor, "B N C"]) -> Float[Tensor, "B K C"]:
        concepts = self.norms[0](concepts + self.cross(concepts, features, features, need_weights=False)[0])
        concepts = self.norms[1](concepts + self.own(concepts, concepts, concepts, need_weights=False)[0])
        return self.norms[2](concepts + self.ffn(concepts))


class ConceptGenerator(nn.Module):
    """Learned prototypes, updated by each photo's patches into its concepts, in the space of the patches."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.prototypes = nn.Parameter(torch.empty(size.prototypes, size.channels))
        nn.init.trunc_normal_(self.prototypes, std=1.0)
        self.updates = nn.ModuleList(Update(size) for _ in range(size.updates))

    def forward(self, features: Float[Tensor, "B N C"]) -> Float[Tensor, "B K C"]:
        """Features of any length; attention sees them with entries of about 1, as a layer normalisation leaves them."""
        scaled = F.normalize(features, dim=2) * math.sqrt(features.shape[2])
        concepts = self.prototypes.expand(len(features), -1, -1)
        for update in self.updates:
            concepts = update(concepts, scaled)
        return concepts


def save_generator(generator: ConceptGenerator, location: str | Path, encoder: str | None = None) -> None:
    """Write the weights as one safetensors file; the sizes, and the hash of the encoder they suit, in its header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    said = asdict(generator.size) | ({} if encoder is None else {ENCODER: encoder})
    storage.write_bytes(location, save(weights, {HEADER: json.dumps(said)}))


def load_generator(location: str | Path) -> ConceptGenerator:
    """A generator from its file or URL, in evaluation mode, on the CPU.

    Errors: `ValueError` where the file is of something else.
    """
    return _read(location)[0]


def encoder_of(location: str | Path) -> str | None:
    """The hash of the encoder that weights were trained for; none where their file does not say.

    Errors: `ValueError` where the file is of something else.
    """
    return _read(location)[1]


def _read(location: str | Path) -> tuple[ConceptGenerator, str | None]:
    data = storage.read_bytes(location)
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors: its length, then JSON
        said = json.loads(header["__metadata__"][HEADER])
        encoder = said.pop(ENCODER, None)
        generator = ConceptGenerator(Size(**said))
        generator.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{location}: no weights of a concept generator ({type(error).__name__})") from None
    return generator.eval(), encoder
