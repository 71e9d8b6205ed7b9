# ruff: noqa: N803, SIM300  # the paper's letters
"""Algorithm 1 written down as it is printed, in float64 with explicit M, E, A and Omega: oracle of `oapseg.pool.oap`.

Slow and meant to be read beside the paper. The open points are those of `oapseg.pool.oap`: strict threshold, direct
adjacency in Eq. 5, M^(t+1) kept with V^(t+1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
DOUBT = 1e-5  # a similarity this near to a threshold may fall either way in float32


@dataclass
class Nodes:
    V: Matrix  # S x C
    M: Matrix  # S x N, zeros and ones
    E: Matrix  # S x S, zeros and ones, no diagonal
    settled: bool = True  # no decision so far hangs on a similarity within DOUBT of a threshold


@dataclass
class ReferenceLayer:
    instance: Nodes
    semantic: Nodes


def grid_adjacency(height: int, width: int) -> Matrix:
    E = np.zeros((height * width, height * width))
    for row in range(height):
        for column in range(width):
            for below, right in ((1, 0), (0, 1)):
                if row + below < height and column + right < width:
                    i, j = row * width + column, (row + below) * width + column + right
                    E[i, j] = E[j, i] = 1
    return E


def similarity(nodes: Nodes, A: Matrix, omega_f: float) -> Matrix:
    feature = nodes.V @ nodes.V.T  # Eq. 2
    rows = nodes.M @ A / nodes.M.sum(1, keepdims=True)
    spatial = np.stack([1 - np.abs(row - rows).mean(1) for row in rows])  # Eq. 3
    return omega_f * feature + (1 - omega_f) * spatial  # Eq. 4


def components(linked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Component of each node by depth-first search, numbered by smallest node."""
    label = np.full(len(linked), -1)
    for start in range(len(linked)):
        if label[start] >= 0:
            continue
        label[start], stack = label.max() + 1, [start]
        while stack:
            for other in np.flatnonzero(linked[stack.pop()] & (label < 0)):
                label[other] = label[start]
                stack.append(int(other))
    return label


def identify_and_merge(
    nodes: Nodes, F: Matrix, A: Matrix, tau: float, sigma: float, omega_f: float, vote: str, rounds: int | str
) -> Nodes:
    merges = 0
    while True:
        S = similarity(nodes, A, omega_f)
        label = components((nodes.E > 0) & (S > tau))
        strict, loose = (components((nodes.E > 0) & (S > tau + shift)) for shift in (DOUBT, -DOUBT))
        settled = nodes.settled and bool((strict == loose).all())
        if merges and (rounds == 1 or label.max() + 1 == len(label)):
            return Nodes(nodes.V, nodes.M, nodes.E, nodes.settled if rounds == 1 else settled)
        Omega = np.eye(label.max() + 1)[label]  # s^t x s^(t+1)
        E = ((Omega.T @ nodes.E @ Omega) > 0).astype(float)  # Eq. 5
        np.fill_diagonal(E, 0)
        M = Omega.T @ nodes.M
        affinity = M @ A if vote == "sum" else M @ A / M.sum(1, keepdims=True)
        weight = np.exp((affinity - affinity.max(1, keepdims=True)) / sigma)
        V = weight / weight.sum(1, keepdims=True) @ F  # Eq. 6
        nodes = Nodes(V / np.linalg.norm(V, axis=1, keepdims=True), M, E, settled)
        merges += 1


def reference_layers(
    features: NDArray[np.float32],
    grid: tuple[int, int],
    tau: list[float],
    sigma: float,
    omega_f: float,
    vote: str,
    rounds: int | str,
) -> list[ReferenceLayer]:
    """Every layer's nodes before the filter by area (Alg. 1, l. 10)."""
    F = features.astype(np.float64)
    A = F @ F.T
    graph = Nodes(F, np.eye(len(F)), grid_adjacency(*grid))
    layers = []
    for threshold in tau:
        graph = identify_and_merge(graph, F, A, threshold, sigma, omega_f, vote, rounds)
        complete = Nodes(graph.V, graph.M, 1 - np.eye(len(graph.V)), graph.settled)
        semantic = identify_and_merge(complete, F, A, threshold, sigma, omega_f, vote, rounds)
        layers.append(ReferenceLayer(graph, semantic))
    return layers


def reference_masks(layers: list[ReferenceLayer], phi: int) -> dict[tuple[int, bytes], int]:
    """Kept masks as (kind, bytes of the mask) with the first level that made each."""
    first: dict[tuple[int, bytes], int] = {}
    for level, layer in enumerate(layers, start=1):
        for kind, nodes in ((0, layer.instance), (1, layer.semantic)):
            for mask in nodes.M:
                if mask.sum() >= phi:
                    first.setdefault((kind, (mask > 0).tobytes()), level)
    return first
