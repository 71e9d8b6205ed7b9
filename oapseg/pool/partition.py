"""Multicut on a weighted graph: which edges to cut so that the weights of the cut ones sum to the least.

Positive weights attract, negative ones repel; the number of clusters comes out. The problem is NP-hard: greedy additive
edge contraction (GAEC, Keuper et al. 2015, Alg. 1) starts, and moves in the manner of Kernighan and Lin (their Alg. 2)
go on from there. On a graph of a few nodes all partitions are searched from there on, so that the result is optimal.
Plain Python on the CPU, and the same result every time.
"""

import heapq

import numpy as np
from jaxtyping import Float, Int

Neighbours = list[dict[int, float]]  # the weight to each neighbour, node by node

FEW = 10  # nodes up to which all 115,975 partitions are searched
PATIENCE = 64  # moves past the best one after which a sequence is given up: it rarely comes back
LEAST_GAIN = 1e-9  # of the largest weight; smaller ones are rounding, and could go round in circles


def cut_cost(edges: Int[np.ndarray, "E 2"], weights: Float[np.ndarray, " E"], cluster: Int[np.ndarray, " V"]) -> float:
    """Sum of the weights of the edges between clusters: what a multicut makes small."""
    return float(weights[cluster[edges[:, 0]] != cluster[edges[:, 1]]].sum())


def multicut(
    num_nodes: int, edges: Int[np.ndarray, "E 2"], weights: Float[np.ndarray, " E"]
) -> Int[np.ndarray, " num_nodes"]:
    """Clusters of low cut cost, each connected, numbered by their smallest nodes.

    The cost is never above that of GAEC, of one cluster, or of every node alone; with at most `FEW` nodes there is no
    lower one. Of partitions of equal cost, rounding aside, it is the one that the moves end in; where there is a lower
    cost, the first to have it when partitions are ordered by the nodes' labels.
    """
    neighbours = adjacency(num_nodes, edges, weights)
    greedy, whole = contract_greedily(neighbours), np.zeros(num_nodes, dtype=np.int64)
    start = min(greedy, whole, key=lambda cluster: cut_cost(edges, weights, cluster))
    moved = move_nodes(neighbours, start)
    return moved if num_nodes > FEW else _connected(neighbours, best_partition(neighbours, moved.tolist()))


def adjacency(num_nodes: int, edges: Int[np.ndarray, "E 2"], weights: Float[np.ndarray, " E"]) -> Neighbours:
    """The graph node by node; weights of parallel edges add up, loops do not count."""
    neighbours: Neighbours = [{} for _ in range(num_nodes)]
    for (i, j), weight in zip(edges.tolist(), weights.tolist(), strict=True):
        if i != j:
            neighbours[i][j] = neighbours[j][i] = neighbours[i].get(j, 0.0) + weight
    return neighbours


def contract_greedily(neighbours: Neighbours) -> Int[np.ndarray, " V"]:
    """GAEC: the edge that attracts most is contracted, its parallels added up, until none attracts."""
    graph = [dict(near) for near in neighbours]
    parent = list(range(len(graph)))
    heap = [(-weight, i, j) for i, near in enumerate(graph) for j, weight in near.items() if i < j and weight > 0]
    heapq.heapify(heap)
    while heap:
        negative, kept, gone = heapq.heappop(heap)
        if graph[kept].get(gone) != -negative:  # contracted or summed up since
            continue
        if len(graph[kept]) < len(graph[gone]):
            kept, gone = gone, kept
        parent[gone] = kept
        near = graph[kept]
        del near[gone]
        for other, weight in graph[gone].items():
            if other != kept:
                del graph[other][gone]
                total = near[other] = graph[other][kept] = near.get(other, 0.0) + weight
                if total > 0:
                    heapq.heappush(heap, (-total, min(kept, other), max(kept, other)))
        graph[gone] = {}
    return _numbered([_root(parent, node) for node in range(len(graph))])


def move_nodes(neighbours: Neighbours, cluster: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
    """Kernighan-Lin moves: between two neighbouring clusters, of one into another, out of one into a new one.

    Pairs are looked at again only where one of the two has changed; the cost falls with every change.
    """
    of: list[int] = _numbered(cluster.tolist()).tolist()
    members: dict[int, set[int]] = {}
    for node, own in enumerate(of):
        members.setdefault(own, set()).add(node)
    least = LEAST_GAIN * max((abs(weight) for near in neighbours for weight in near.values()), default=0.0)
    changed, free = set(members), len(members)
    while changed:
        pairs = sorted({_pair(of[i], of[j]) for own in changed for i in members[own] for j in neighbours[i]})
        before, changed = changed, set()
        for a, b in pairs:
            if a == b or not members[a] or not members[b]:
                continue
            if _exchange(neighbours, of, members, (a, b), least):
                changed |= {a, b}
        for own in sorted(before | changed):
            while len(members[own]) > 1:
                members[free] = set()
                if not _exchange(neighbours, of, members, (own, free), least):
                    del members[free]
                    break
                changed |= {own, free}
                free += 1
        changed = {own for own in changed if members[own]}
    whole = _connected(neighbours, of)
    return whole if whole.max(initial=-1) + 1 == len(set(of)) else move_nodes(neighbours, whole)


def best_partition(neighbours: Neighbours, start: list[int]) -> list[int]:
    """Labels of least cost by branch and bound: `start`, or what costs less by more than rounding.

    Nodes are labelled in turn, each with a label that is there or the next one. A branch ends where its cost would stay
    too high if of all edges to come those that repel, and no others, were cut.
    """
    nodes = range(len(neighbours))
    earlier = [[(near, weight) for near, weight in neighbours[node].items() if near < node] for node in nodes]
    least = LEAST_GAIN * max((abs(weight) for near in earlier for _, weight in near), default=0.0)
    repelled = [
        sum(min(0.0, weight) for near in earlier[node:] for _, weight in near) for node in range(len(start) + 1)
    ]
    best, lowest = start, sum(weight for i in nodes for j, weight in earlier[i] if start[i] != start[j])
    label: list[int] = []

    def extend(cost: float, num_labels: int) -> None:
        nonlocal best, lowest
        node = len(label)
        if cost + repelled[node] >= lowest - least:
            return
        if node == len(start):
            best, lowest = label.copy(), cost
            return
        for own in range(num_labels + 1):
            cut = sum(weight for near, weight in earlier[node] if label[near] != own)
            label.append(own)
            extend(cost + cut, max(num_labels, own + 1))
            label.pop()

    extend(0.0, 0)
    return best


def _exchange(
    neighbours: Neighbours, of: list[int], members: dict[int, set[int]], pair: tuple[int, int], least: float
) -> bool:
    """The best sequence of moves between two clusters, or their union, where that lowers the cost; whether it did."""
    a, b = pair
    gain: dict[int, float] = {}  # of moving a node across
    boundary, joined = [], 0.0
    for own, other in ((a, b), (b, a)):
        for node in members[own]:
            inside = across = 0.0
            for near, weight in neighbours[node].items():
                if of[near] == own:
                    inside += weight
                elif of[near] == other:
                    across += weight
            gain[node] = across - inside
            if across or not members[b]:
                boundary.append((-gain[node], node))
            joined += across / 2
    heapq.heapify(boundary)
    side = dict.fromkeys(members[a], a) | dict.fromkeys(members[b], b)
    moved: list[int] = []
    total, best, best_length = 0.0, least, 0
    done: set[int] = set()
    while boundary and len(moved) - best_length < PATIENCE:
        negative, node = heapq.heappop(boundary)
        if node in done or gain[node] != -negative:
            continue
        done.add(node)
        moved.append(node)
        total += gain[node]
        side[node] = b if side[node] == a else a
        if total > best:
            best, best_length = total, len(moved)
        for near, weight in neighbours[node].items():
            if near in side and near not in done:
                gain[near] += 2 * (weight if side[near] != side[node] else -weight)
                heapq.heappush(boundary, (-gain[near], near))
    if members[b] and joined > best:
        moved, best_length = sorted(members[b]), len(members[b])
    for node in moved[:best_length]:
        own = of[node]
        of[node] = b if own == a else a
        members[own].remove(node)
        members[of[node]].add(node)
    return best_length > 0


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _connected(neighbours: Neighbours, of: list[int]) -> Int[np.ndarray, " V"]:
    """Clusters that moves have torn apart become several, which costs nothing and opens new moves."""
    part = [-1] * len(of)
    for start in range(len(of)):
        if part[start] < 0:
            part[start], stack = start, [start]
            while stack:
                node = stack.pop()
                for near in neighbours[node]:
                    if part[near] < 0 and of[near] == of[node]:
                        part[near] = start
                        stack.append(near)
    return _numbered(part)


def _numbered(label: list[int]) -> Int[np.ndarray, " V"]:
    """Labels from 0, in the order of their smallest nodes."""
    number: dict[int, int] = {}
    return np.array([number.setdefault(own, len(number)) for own in label], dtype=np.int64)
