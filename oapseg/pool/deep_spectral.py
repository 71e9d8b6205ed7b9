"""Deep spectral instances: the foreground by one eigenvector, its instances by several (Arefi et al.; DSM)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.pool.channels import quiet_channels, varied_channels
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.kmeans import kmeans
from oapseg.pool.similarity import Metric, graph_weights
from oapseg.pool.spectral import Solver, fiedler, smallest_cuts
from oapseg.pool.tokencut import EVEN
from oapseg.refine.regions import components

BORDER = 5  # patches of a side that count as border (released code)
BORDER_SHARE = 0.9  # of a border in the foreground that speaks for a swap
BORDERS = 2  # borders that must
SMALL = 0.1  # share of the largest part below which another one is dropped (released code)
RELEASED_MEDIAN = 3  # side of the foreground's median in the released code


@dataclass(frozen=True)
class DeepSpectral(Generator):
    """The instances of the foreground, with the fields of section `pool.deep_spectral`.

    Foreground: the `ncr` share of channels with the least entropy, dot products as weights, and the smaller side of the
    second eigenvector's zero, cleaned by a median. Instances: of those channels, normalised, the `dcr` of highest
    deviation; weights by `affinity`; k-means on `eigenvectors` eigenvectors, median-filtered. `ncr: 1`, `dcr: 0`,
    `affinity: dot` is plain DSM.

    `instances`: a number; or `labels`, each photo's own number of things (the authors take it from the ground truth),
    where none means no mask; or `eigengap`, where there are no labels: the largest gap between one eigenvalue and the
    next, from the second on as in DSM, among `max_instances`; one instance where nothing differs.
    `background`: features outside the foreground become `zero`, and its patches nodes still (paper), or are `drop`ped
    from the graph. `clean`: `paper` is a median of 5 x 5 and a swap where the foreground fills the borders; `released`
    swaps first, then drops small parts, then takes a median of 3 x 3, and counts a channel with an empty bin as noise.

    The authors' script for instances takes the entropies of keys before they are normalised; ours are of the normalised
    keys that `Patches` hold, as in their script for the foreground.
    """

    ncr: float
    bins: int
    dcr: int
    affinity: Metric
    background: Literal["zero", "drop"]
    eigenvectors: int
    instances: int | Literal["eigengap", "labels"]
    max_instances: int
    median: int
    clean: Literal["paper", "released"]
    solver: Solver

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo, one by one: with `drop` the second graph has as many nodes as the foreground patches.

        Errors: `ValueError` that names the photo without labels where `instances` is `labels`.
        """
        asked = [self._asked(*each) for each in enumerate(patches)]
        photos = (features for group in grouped(patches) for features in group)
        return [described(self._masks(*each), each[1]) for each in zip(photos, patches, asked, strict=True)]

    def _asked(self, index: int, photo: Patches) -> int | Literal["eigengap"]:
        if self.instances != "labels":
            return self.instances
        if photo.num_things is None:
            raise ValueError(
                f"image {index} of the batch: pool.deep_spectral.instances is labels, and the photo comes without; "
                "allowed are eigengap and a number"
            )
        return photo.num_things

    def _masks(
        self, features: Float[Tensor, "N C"], photo: Patches, asked: int | Literal["eigengap"]
    ) -> Bool[Tensor, "S h w"]:
        """Masks of one photo; none where none is asked for."""
        if asked == 0:
            return torch.zeros(0, *photo.grid, dtype=torch.bool, device=features.device)
        with full_precision(features.device):
            empty_bins: Literal["nothing", "noise"] = "nothing" if self.clean == "paper" else "noise"
            quiet = features[:, quiet_channels(features, self.ncr, self.bins, empty_bins)]
            inside = self._foreground(quiet, photo.grid)
            if not inside.any():
                return inside[None][:0]
            return self._instances(F.normalize(quiet, dim=1), inside, asked)

    def _foreground(self, features: Float[Tensor, "N C"], grid: tuple[int, int]) -> Bool[Tensor, "h w"]:
        """The smaller side of the Fiedler vector, cleaned; everything where nothing differs."""
        value, vector = fiedler(graph_weights(features, "dot")[None], self.solver)
        if len(features) == 1 or float(1 - value[0]) < EVEN:
            return torch.ones(grid, dtype=torch.bool, device=features.device)
        inside = (vector[0] > 0).view(grid)
        if inside.float().mean() > 0.5:
            inside = (vector[0] < 0).view(grid)
        if self.clean == "paper":
            return unframed(median_filter(inside.float()[None], self.median)[0] > 0.5)
        parts, _ = components(unframed(inside)[None])
        sizes = parts.flatten(1).sum(1)
        inside = parts[sizes >= SMALL * sizes.max()].any(0)
        return median_filter(inside.float()[None], RELEASED_MEDIAN)[0] > 0.5

    def _instances(
        self, features: Float[Tensor, "N C"], inside: Bool[Tensor, "h w"], asked: int | Literal["eigengap"]
    ) -> Bool[Tensor, "S h w"]:
        """Clusters of the foreground's patches in the space of the eigenvectors, as many as asked for."""
        nodes = inside.flatten()
        varied = features[:, varied_channels(features, self.dcr)] * nodes[:, None]
        graph = varied if self.background == "zero" else varied[nodes]
        needed = max(self.eigenvectors, self.max_instances if asked == "eigengap" else 0)
        values, vectors = smallest_cuts(graph_weights(graph, self.affinity)[None], needed, self.solver)
        count = num_clusters(values[0]) if asked == "eigengap" else asked
        segments = vectors[0, :, : self.eigenvectors]
        if count == 1 or segments.shape[1] == 0:
            return inside[None]
        spread = segments.new_zeros(len(nodes), segments.shape[1])
        spread[slice(None) if self.background == "zero" else nodes] = segments
        smooth = median_filter(spread.T.unflatten(1, inside.shape), self.median).flatten(1).T[nodes]
        cluster = torch.from_numpy(kmeans(smooth.cpu().numpy(), count)).to(inside.device)
        label = torch.full_like(nodes, -1, dtype=torch.long)
        label[nodes] = cluster
        return (label == torch.arange(int(cluster.max()) + 1, device=label.device)[:, None]).unflatten(1, inside.shape)


def num_clusters(values: Float[Tensor, " K"]) -> int:
    """How many clusters rising eigenvalues speak for, without the first one, 0: as many as lie before the largest gap.

    At least 2, as the gap after the first eigenvalue does not count; 1 where all cuts cost the same.
    """
    if len(values) == 0 or float(1 - values[0]) < EVEN:
        return 1
    return 2 + int(values.diff().argmax()) if len(values) > 1 else 2


def unframed(inside: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The foreground, swapped with the background where it fills two borders or more of the grid."""
    borders = [inside[:BORDER], inside[-BORDER:], inside[:, :BORDER], inside[:, -BORDER:]]
    full = sum(bool(border.float().mean() > BORDER_SHARE) for border in borders)
    return ~inside if full >= BORDERS else inside


def median_filter(planes: Float[Tensor, "S h w"], side: int) -> Float[Tensor, "S h w"]:
    """Median of the `side` x `side` cells around each cell; the outermost ones go on beyond the border."""
    reach = side // 2
    padded = F.pad(planes[None], (reach,) * 4, mode="replicate")[0]
    windows = padded.unfold(1, side, 1).unfold(2, side, 1).flatten(3)
    return windows.median(3).values
