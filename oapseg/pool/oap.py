"""Online Agglomerative Pooling: patch features to instance and semantic masks (section 4.2, Algorithm 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, SEMANTIC, Masks
from oapseg.pool import graph as graphs
from oapseg.pool import on_device
from oapseg.pool.complete import Room, complete_components, first_room, next_room
from oapseg.pool.components import connected_components, count, edges_of
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.regions import Draft, Graph, Join, Layer, Photos, Regions, cuts, made_before, photos_of


class Step(NamedTuple):
    """A merge to come: along the edges of a graph, or over all pairs of a photo's nodes (l. 14)."""

    graph: Graph
    tau: float
    complete: bool


@dataclass(frozen=True)
class OAP(Generator):
    """Algorithm 1 with the fields of section `pool.oap`.

    Masks come by level and, within one, instances first. A region that several levels make is one mask, and its level
    the first that made it, the only one kept. An instance mask lives on until the level of the smallest instance mask
    that holds it and more, or to the last level; `layers` has the regions of every level, semantic ones too. A region's
    features depend on the region alone (Eq. 6), so nothing is lost with the copies. Scores are 1: the method has none.

    `vote` is `mean` by default: on 206 photos of COCO val2017, at 224 px with the starter encoder and the thresholds of
    `params.yaml`, class-agnostic masks have AP 0.16, AP50 0.52, AR100 4.06 by `mean`, and 0.15, 0.49, 4.06 by `sum`
    (percent; `benchmarks/encoder.py`). With the paper's thresholds and phi of 5: 0.08, 0.32, 2.51 and 0.08, 0.33, 2.53.

    Departs from the paper, where it contradicts itself: Alg. 1, l. 11 appends M^t and V^t, from before the merge; here
    M^(t+1) and V^(t+1). For Eq. 5 see `graph.contract_edges`.
    """

    tau: Sequence[float]
    sigma: float
    omega_f: float
    phi: int
    vote: Literal["sum", "mean"]
    rounds: Literal[1, "stable"]
    chunk: int

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of photos of one grid, pooled together as one graph.

        Errors: `ValueError` that names the photo whose features are not finite or do not fit the grid.
        """
        if not patches:
            return []
        layers = self.layers(patches)
        made = []
        for level in range(len(layers)):
            for kind, name in ((INSTANCE, "instance"), (SEMANTIC, "semantic")):
                regions, *earlier = (getattr(layer, name) for layer in layers[level::-1])
                kept = (regions.area >= self.phi) & ~made_before(regions, earlier)
                made.append((regions, regions.photo(), kept, level + 1, kind))
        none = made[0][0].area.new_zeros(len(patches))
        counts = on_device.read([none.index_add(0, photo, kept.long()) for _, photo, kept, *_ in made])
        found, photos = [], []
        for (regions, photo, kept, level, kind), numbers in zip(made, counts, strict=True):
            index = on_device.where(kept, sum(numbers))[:, 0]
            found.append(_masks(regions, index, photo[index], patches[0].grid, level, kind))
            photos.append(photo[index])
        every = Masks(*(torch.cat(field) for field in zip(*found, strict=True)))
        every = every.select(torch.cat(photos).argsort(stable=True))
        of_photo = [sum(numbers) for numbers in zip(*counts, strict=True)]
        return [Masks(*fields) for fields in zip(*(field.split(of_photo) for field in every), strict=True)]

    def layers(self, patches: list[Patches]) -> list[Layer]:
        """The regions of every layer, for photos of one grid.

        A layer's semantic merge and the next layer's instance merge start from the same graph: the host reads the sizes
        of both at once, at the boundary of the two layers, and more often only where the merges are `stable` or a GPU
        had too little room for pairs (`_enough`).

        Alive at once: a photo's matrix of rows, of N x N floats at most, and some bands of `chunk` rows, four times as
        many on a GPU. Semantic regions have no rows, as nothing merges them further, but where the merges are `stable`:
        then they have a second matrix.
        """
        photos = photos_of(patches)
        with full_precision(photos.features.device):
            graph = self._settled(None, self._first(photos), self.tau[0], photos, complete=False)
            layers = []
            for tau, next_tau in zip_longest(self.tau, self.tau[1:]):
                steps = [Step(graph, tau, complete=True)]
                steps += [Step(graph, next_tau, complete=False)] if next_tau is not None else []
                semantic, *instance = self._identify(steps)
                del steps
                num_rows = sum(semantic.counts) if self.rounds == "stable" else 0
                apart = graph.rows.new_empty(num_rows, graph.rows.shape[1])
                merged = self._merge(graph, semantic, photos, apart)
                merged = self._settled(graph, merged, tau, photos, complete=True)
                layers.append(Layer(graph.regions, merged.regions))
                del merged, apart
                for join in instance:
                    graph = graph._replace(room=next_room(semantic.needed))
                    merged = self._merge(graph, join, photos, graph.rows)
                    graph = self._settled(graph, merged, next_tau, photos, complete=False)
        return layers

    def _first(self, photos: Photos) -> Graph:
        """The first merge (Alg. 1, l. 3-9), of patches, whose affinities A = F F' are never all in memory at once."""
        num_photos, num_patches, channels = photos.features.shape
        features = photos.features.flatten(0, 1)
        node = torch.arange(len(features), device=features.device).view(num_photos, -1)
        edges = (node[:, :1, None] + graphs.grid_edges(*photos.grid, node.device)).flatten(0, 1)
        similarity = self.omega_f * graphs.feature_similarity(features, edges)
        similarity += (1 - self.omega_f) * self._along_the_grid(photos)
        joined = on_device.keep(edges, similarity > self.tau[0])
        component = connected_components(len(features), joined, num_patches)
        draft = Draft.of(component, node, edges, len(features))
        [sizes] = on_device.read([draft.sizes])
        join = draft.join(sizes)

        total = sum(join.counts)
        area = count(component, total)
        means = graphs.sum_rows(features, component, total, 1 / area[component])
        regions = Regions(component[node], area, means.new_empty(total, channels), join.counts)
        rows = graphs.affinities(means, photos.features, join.counts)
        sums = graphs.affinities(means, photos.block_sums, join.counts)
        of_regions = self._sums(regions, photos)
        regions.features[:] = self._vote(
            regions.photo(), join.counts, rows if of_regions is None else of_regions, photos
        )
        edges = edges_of(join.key, join.edges, len(features))
        room = first_room(join.counts, on_device.chunk(self.chunk, rows))
        return Graph(regions, edges, rows, sums, room)

    def _along_the_grid(self, photos: Photos) -> Float[Tensor, " E"]:
        """Spatial similarity of neighbouring patches (Eq. 3): on the CPU photo by photo, for the cache's sake."""
        features, chunk = photos.features, on_device.chunk(self.chunk, photos.features)
        parts = features[None] if on_device.waits(features) else features
        return torch.stack([graphs.grid_spatial_similarity(part, photos.grid, chunk) for part in parts]).flatten()

    def _settled(self, before: Graph | None, graph: Graph, tau: float, photos: Photos, *, complete: bool) -> Graph:
        """The graph merged on until a merge changes nothing, where `rounds` asks for it; `before` is its last state."""
        while self.rounds == "stable" and before is not graph:
            [join] = self._identify([Step(graph, tau, complete)])
            before, graph = graph, self._merge(graph, join, photos, graph.rows)
        return graph

    def _identify(self, steps: list[Step]) -> list[Join]:
        """What each step joins; the host reads the sizes of all at once."""
        drafts = [self._compare(step, step.graph.room) for step in steps]
        every = on_device.read([draft.sizes for draft in drafts])
        return [self._enough(step, draft.join(sizes)) for step, draft, sizes in zip(steps, drafts, every, strict=True)]

    def _enough(self, step: Step, join: Join) -> Join:
        """The same, compared anew where a GPU had too little room for pairs."""
        room = step.graph.room
        while on_device.waits(join.component) and (room.close < join.needed.close or room.kept < join.needed.kept):
            room = Room(max(room.close, join.needed.close), max(room.kept, join.needed.kept))
            draft = self._compare(step, room)
            [sizes] = on_device.read([draft.sizes])
            join = draft.join(sizes)
        return join

    def _compare(self, step: Step, room: Room) -> Draft:
        """The component of each node, joined by edges whose similarity exceeds tau (Eq. 2-4)."""
        (regions, edges, rows, sums, _), tau, complete = step
        chunk = on_device.chunk(self.chunk, rows)
        portion = on_device.portion(chunk, len(regions.node), rows)
        if complete:
            component, needed = complete_components(
                regions.features, rows, sums, regions.photo(), regions.counts, tau, self.omega_f, chunk, room
            )
            return Draft.of(component, regions.node, edges[:0], portion, needed)
        similarity = self.omega_f * graphs.feature_similarity(regions.features, edges)
        similarity += (1 - self.omega_f) * graphs.spatial_similarity(rows, edges)
        joined = on_device.keep(edges, similarity > tau)
        component = connected_components(len(regions.area), joined, max(regions.counts))
        return Draft.of(component, regions.node, edges, portion)

    def _merge(self, graph: Graph, join: Join, photos: Photos, rows: Float[Tensor, "T N"]) -> Graph:
        """Components become nodes (Eq. 5), whose features are voted anew where the region is new (Eq. 6).

        Their rows are written to `rows`, from its first on: to the graph's own, which is then no graph any more, or
        elsewhere, or not at all where that has no row. They come in portions of rising numbers, of which the new ones
        are voted at once: a node's number never grows, so that what a portion writes no later one reads.
        """
        component, total = join.component, sum(join.counts)
        if total == len(component):
            return graph
        area = torch.zeros_like(component[:total]).index_add_(0, component, graph.regions.area)
        share = graph.regions.area / area[component]
        sizes = count(component, total)
        several = sizes > 1
        new = on_device.where(several, num_new := sum(join.new))[:, 0]
        stays = on_device.where(~several[component], total - num_new)[:, 0]
        parts = on_device.where(several[component], len(component) - total + num_new)[:, 0]
        parts = parts[component[parts].argsort(stable=True)]
        group = several.cumsum(0) - 1
        sums = graphs.sum_rows(graph.sums, component, total, share)
        features = photos.features.new_empty(total, photos.features.shape[2])
        features[component] = graph.regions.features
        regions = Regions(component[graph.regions.node], area, features, join.counts)
        photo, of_regions = regions.photo(), self._sums(regions, photos)

        chunk = on_device.chunk(self.chunk, graph.rows)
        portions = on_device.portions(join.new, chunk, new)
        every = new.split([sum(counts) for counts in portions])
        places = join.cuts[: len(every)]  # that a GPU's host has read already
        if not places:
            before = sizes.new_tensor([0, *map(len, every[:-1])]).cumsum(0)
            places = cuts(new[before], before, sizes).tolist()
        before_stays, before_parts = zip(*places, strict=True)
        of_stays, of_parts = stays.tensor_split(before_stays[1:]), parts.tensor_split(before_parts[1:])
        for counts, own, part, stay in zip(portions, every, of_parts, of_stays, strict=True):
            made = graphs.sum_rows(graph.rows, group[component[part]] - group[own[:1]], len(own), share[part], part)
            if len(rows):
                for some in stay.split(on_device.portion(chunk, len(counts), rows)):
                    rows.index_copy_(0, component[some], graph.rows[some])
                rows.index_copy_(0, own, made)
            features[own] = self._vote(photo[own], counts, made if of_regions is None else of_regions[own], photos)
            del made
        return Graph(regions, edges_of(join.key, join.edges, len(component)), rows[:total], sums, graph.room)

    def _sums(self, regions: Regions, photos: Photos) -> Float[Tensor, "T C"] | None:
        """What a vote by the sum takes instead of rows: the sum of each region's features, in float64.

        The sum of affinities over a large region is a number of hundreds, of which sigma asks the third decimal:
        float32 does not hold that.
        """
        if self.vote == "mean":
            return None
        return graphs.sum_rows(photos.features.flatten(0, 1).double(), regions.node.flatten(), len(regions.area))

    def _vote(
        self, photo: Int[Tensor, " T"], counts: list[int], rows: Float[Tensor, "T N_or_C"], photos: Photos
    ) -> Float[Tensor, "T C"]:
        """Features of nodes, so many of each photo, from their rows, or `_sums`, and their photos' patches (Eq. 6)."""
        voted = photos.features.new_empty(len(photo) + 1, photos.features.shape[2])
        for of_photo, place in on_device.by_photo(photo, counts, on_device.chunk(self.chunk, rows)):
            own, features = rows[place.clamp(max=len(photo) - 1)], photos.features[of_photo]
            affinity = own @ features.double().mT if self.vote == "sum" else own
            voted[place] = graphs.vote(affinity.div_(self.sigma), features)
        return voted[:-1]


def _masks(
    regions: Regions, kept: Int[Tensor, " T"], photo: Int[Tensor, " T"], grid: tuple[int, int], level: int, kind: int
) -> Masks:
    """The kept regions of all photos."""
    masks = regions.node[photo] == kept[:, None]
    return Masks(
        masks.unflatten(1, grid),
        torch.full_like(kept, level),
        torch.full_like(kept, kind),
        regions.features[kept],
        torch.ones_like(kept, dtype=torch.float32),
    )
