"""The Triton kernels against the PyTorch ones: interpreted, so that no GPU is needed, and on one where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oapseg.pool import on_device
from oapseg.pool.components import connected_components

pytest.importorskip("triton")
INTERPRETED = """
import sys, torch
from oapseg.pool.triton_components import smallest_nodes
graphs = torch.load(sys.argv[1])
torch.save([smallest_nodes(*graph) for graph in graphs], sys.argv[1])
"""


def graph(num_nodes: int, num_edges: int) -> torch.Tensor:
    return torch.randint(0, num_nodes, (num_edges, 2), generator=torch.Generator().manual_seed(num_edges))


def test_interpreted_kernels_find_the_smallest_node_of_each_component(tmp_path: Path) -> None:
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    sizes = [(1, 0), (5, 0), (40, 30), (300, 250), (300, 2000)]
    number = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    graphs = [(nodes, graph(nodes, edges)) for nodes, edges in sizes] + [
        (400, torch.stack([number[1:], number[:-1]], 1))
    ]
    torch.save(graphs, tmp_path / "graphs.pt")
    command = [sys.executable, "-c", INTERPRETED, str(tmp_path / "graphs.pt")]
    subprocess.run(command, check=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    for (num_nodes, edges), smallest in zip(graphs, torch.load(tmp_path / "graphs.pt"), strict=True):
        component = connected_components(num_nodes, edges, num_nodes).tolist()
        assert smallest.tolist() == [component.index(label) for label in component]


@pytest.mark.gpu
@pytest.mark.parametrize(("num_nodes", "num_edges"), [(1, 0), (3000, 2500), (50_000, 40_000), (50_000, 400_000)])
def test_on_a_gpu_both_kernels_find_the_same(monkeypatch: pytest.MonkeyPatch, num_nodes: int, num_edges: int) -> None:
    edges = graph(num_nodes, num_edges)
    expected = connected_components(num_nodes, edges, num_nodes)
    for kernels in (False, True):
        monkeypatch.setattr(on_device, "KERNELS", kernels)
        assert torch.equal(connected_components(num_nodes, edges.cuda(), num_nodes).cpu(), expected)
