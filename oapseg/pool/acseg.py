"""ACSeg: the regions of a photo's concepts, found by a trained Adaptive Concept Generator (Li et al. 2023)."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from oapseg import storage
from oapseg.encode.patches import Patches
from oapseg.masks import SEMANTIC, Masks
from oapseg.pool.concept_generator import ConceptGenerator, load_generator
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.modularity import assignment
from oapseg.pool.prompts import split


@dataclass(frozen=True)
class ACSeg(Generator):
    """Each patch goes to its nearest concept (Eq. 6); concepts without a patch vanish. Fields of section `pool.acseg`.

    A concept's region is a semantic mask. The paper has no instances: a region's connected parts of at least `phi`
    patches stand as instance masks, which come first, so that the generator can be compared with the others.

    Departs from the paper: patches are assigned on the grid, where the paper brings the soft assignment to the photo's
    size before, and features are keys, as everywhere here, where the paper has the last layer's tokens.
    """

    weights: str
    phi: int

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Errors: `ValueError` where features are not finite or of another width than the weights, or weights lack."""
        found: list[Masks] = []
        for features in grouped(patches):
            for photo, regions in zip(patches[len(found) :], self._regions(features), strict=False):
                found.append(self._masks(photo, regions.unflatten(1, photo.grid)))
        return found

    @cached_property
    def _generator(self) -> ConceptGenerator:
        if not storage.exists(self.weights):
            raise ValueError(
                f"pool.acseg.weights: no file {self.weights}; train one with "
                "`python -m components acg --shards SHARDS --encoder ENCODER --out FOLDER` and name its acg.safetensors"
            )
        return load_generator(self.weights)

    def _regions(self, features: Float[Tensor, "B N C"]) -> list[Bool[Tensor, "K N"]]:
        """The patches of each concept that has some, photo by photo."""
        generator = self._generator.to(features.device)
        if features.shape[2] != generator.size.channels:
            raise ValueError(
                f"pool.acseg.weights: {self.weights} is of an encoder of {generator.size.channels} channels, "
                f"these features have {features.shape[2]}; train with this encoder"
            )
        with full_precision(features.device):
            nearest = assignment(features, generator(features)).argmax(2)
        regions = F.one_hot(nearest, generator.size.prototypes).bool().mT
        return [of_photo[of_photo.any(1)] for of_photo in regions]

    def _masks(self, photo: Patches, regions: Bool[Tensor, "K h w"]) -> Masks:
        """Instance masks, then semantic ones."""
        parts = split(regions, self.phi)
        masks = described(torch.cat([parts, regions]), photo)
        kind = masks.kind.clone()
        kind[len(parts) :] = SEMANTIC
        return Masks(masks.masks, masks.level, kind, masks.features, masks.scores)
