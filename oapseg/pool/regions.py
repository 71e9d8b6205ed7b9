"""What pooling carries from layer to layer: regions of photos as nodes of one graph, and what merges them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.pool import graph as graphs
from oapseg.pool import on_device
from oapseg.pool.complete import Room
from oapseg.pool.components import contract_edges, count


class Regions(NamedTuple):
    """Disjoint regions that cover each photo of a batch; those of one photo come before those of the next."""

    node: Int[Tensor, "B N"]  # the region of each patch: M of the paper, read the other way
    area: Int[Tensor, " S"]  # patches
    features: Float[Tensor, "S C"]  # V
    counts: list[int]  # regions of each photo

    def photo(self) -> Int[Tensor, " S"]:
        """The photo of each region."""
        photo = torch.arange(len(self.node), device=self.node.device)[:, None].expand_as(self.node)
        return torch.empty_like(self.area).scatter_(0, self.node.flatten(), photo.flatten())


class Photos(NamedTuple):
    """Patches of photos of one grid."""

    features: Float[Tensor, "B N C"]
    block_sums: Float[Tensor, "B K C"]  # of the features, over blocks of patches
    grid: tuple[int, int]


class Graph(NamedTuple):
    """Regions as the nodes of a graph."""

    regions: Regions
    edges: Int[Tensor, "E 2"]
    rows: Float[Tensor, "S N"]  # M A / |M|
    sums: Float[Tensor, "S K"]  # of the rows, over blocks of patches
    room: Room  # for pairs, where a GPU compares all nodes of a photo


class Join(NamedTuple):
    """Nodes that become one, and the sizes that the host knows of what they become."""

    component: Int[Tensor, " S"]
    key: Int[Tensor, " E"]  # of the edges between components, with copies
    counts: list[int]  # components of each photo
    new: list[int]  # components of several nodes, of each photo
    edges: int
    needed: Room
    cuts: list[tuple[int, int]]  # `cuts` of every portion of new nodes, on a GPU


class Draft(NamedTuple):
    """Nodes that become one, before the host knows a size."""

    component: Int[Tensor, " S"]
    key: Int[Tensor, " E"]
    photos: int
    sizes: Int[Tensor, " L"]

    @classmethod
    def of(
        cls,
        component: Int[Tensor, " S"],
        node: Int[Tensor, "B N"],
        edges: Int[Tensor, "E 2"],
        portion: int,
        needed: Int[Tensor, "2"] | None = None,
    ) -> "Draft":
        """From the component of each region, which come photo by photo as the regions do, `node` of each patch.

        On a GPU the sizes tell where every `portion` of the new nodes begins, too (`cuts`): a merge makes so many at a
        time.
        """
        key, num_edges = contract_edges(edges, component)
        last = component[node].amax(1)
        sizes = count(component, len(component))
        several = sizes > 1
        of_photos = torch.stack([last + 1, several.cumsum(0)[last]]).diff(prepend=last.new_zeros(2, 1))
        needed = last.new_zeros(2) if needed is None else needed
        told = [num_edges[None], needed, of_photos.flatten()]
        if on_device.waits(component):
            first = on_device.where(several, len(component) // 2)[::portion, 0]
            told.append(cuts(first, portion * torch.arange(len(first), device=first.device), sizes).flatten())
        return cls(component, key, len(node), torch.cat(told))

    def join(self, sizes: list[int]) -> Join:
        """With the values of `sizes`."""
        (edges, close, kept), of_photos = sizes[:3], sizes[3 : 3 + 2 * self.photos]
        counts, new, told = of_photos[: self.photos], of_photos[self.photos :], sizes[3 + 2 * self.photos :]
        places = list(zip(told[::2], told[1::2], strict=True))
        return Join(self.component, self.key, counts, new, edges, Room(close, kept), places)


def cuts(first: Int[Tensor, " K"], made: Int[Tensor, " K"], sizes: Int[Tensor, " T"]) -> Int[Tensor, "K 2"]:
    """Nodes that stay as they are, and nodes that are joined, before those of some new nodes, the components `first`.

    `made` counts the new nodes before each, `sizes` the nodes of each component.
    """
    stay = first - made
    return torch.stack([stay, (sizes.cumsum(0) - sizes)[first] - stay], 1)


class Layer(NamedTuple):
    """What one layer makes, before small regions are dropped."""

    instance: Regions
    semantic: Regions


def photos_of(patches: list[Patches]) -> Photos:
    """Photos of one grid, checked."""
    height, width = grid = patches[0].grid
    for index, photo in enumerate(patches):
        if photo.grid != patches[0].grid or len(photo.features) != height * width:
            raise ValueError(
                f"image {index} of the batch: {len(photo.features)} patches on a grid of {photo.grid}; "
                f"all photos of a batch must have the {height * width} patches of the grid {patches[0].grid}"
            )
    features = torch.stack([photo.features.detach() for photo in patches]).float()
    [finite] = on_device.read([features.isfinite().flatten(1).all(1).long()])
    if not all(finite):
        raise ValueError(f"image {finite.index(0)} of the batch: features are not finite (NaN or infinite)")
    num_blocks = graphs.num_blocks(height, width)
    first = num_blocks * torch.arange(len(features), device=features.device)[:, None]
    block = first + graphs.blocks(height, width, features.device)
    sums = graphs.sum_rows(features.flatten(0, 1), block.flatten(), num_blocks * len(features))
    return Photos(features, sums.unflatten(0, (len(features), num_blocks)), grid)


def made_before(regions: Regions, earlier: list[Regions]) -> Bool[Tensor, " S"]:
    """Whether a region is also one of an earlier level: as large as the one at its first patch, and nowhere else.

    Such copies are dropped: what is kept is the region with its first level, not the later ones that made it again.
    """
    node = regions.node.flatten()
    patch = torch.arange(len(node), device=node.device)
    first = torch.full_like(regions.area, len(node)).scatter_reduce(0, node, patch, "amin")
    found = torch.zeros_like(regions.area, dtype=torch.bool)
    for before in earlier:
        candidate = before.node.flatten()[first]
        inside = (before.node.flatten() == candidate[node]).long()
        shared = torch.zeros_like(regions.area).index_add_(0, node, inside)
        found |= (shared == regions.area) & (before.area[candidate] == regions.area)
    return found
