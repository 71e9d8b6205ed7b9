"""Deformable attention against its definition, written out point by point."""

import torch

from oapseg.model.deformable import DeformableAttention, cell_centres, gather_points


def _bilinear(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value at xy in [0, 1], cell centres at half steps, zero outside."""
    depth, height, width = image.shape
    column, row = x * width - 0.5, y * height - 0.5
    left, top = int(column // 1), int(row // 1)
    total = torch.zeros(depth)
    for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= r < height and 0 <= c < width:
            total += image[:, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


def test_gathering_equals_the_sum_over_points_by_hand() -> None:
    torch.manual_seed(0)
    shapes, heads, depth, queries, points = [(5, 4), (3, 2)], 2, 3, 4, 2
    value = torch.randn(1, 26, heads, depth)
    locations = torch.rand(1, queries, heads, 2, points, 2) * 1.4 - 0.2
    weights = torch.rand(1, queries, heads, 2, points)
    expected = torch.zeros(1, queries, heads * depth)
    for level, cells in enumerate(value[0].split([20, 6])):
        height, width = shapes[level]
        for query in range(queries):
            for head in range(heads):
                image = cells[:, head].T.view(depth, height, width)
                for point in range(points):
                    x, y = locations[0, query, head, level, point].tolist()
                    share = weights[0, query, head, level, point] * _bilinear(image, x, y)
                    expected[0, query, head * depth : (head + 1) * depth] += share
    assert torch.allclose(gather_points(value, shapes, locations, weights), expected, atol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    value = torch.randn(1, 12, 1, 2, dtype=torch.float64, requires_grad=True)
    locations = (torch.rand(1, 3, 1, 1, 2, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    weights = torch.rand(1, 3, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *args: gather_points(args[0], [(4, 3)], *args[1:]), (value, locations, weights)
    )


def test_centres_run_row_by_row_and_level_by_level() -> None:
    centres = cell_centres([(2, 2), (1, 1)], torch.device("cpu"))
    assert centres.tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75], [0.5, 0.5]]


def test_attention_starts_as_a_star_around_the_reference() -> None:
    attention = DeformableAttention(16, 4, 1, 2)
    offsets = attention.offsets(torch.zeros(1, 1, 16)).view(4, 2, 2)
    assert torch.allclose(offsets[:, 0].abs().amax(1), torch.ones(4))
    assert torch.allclose(offsets[:, 1], 2 * offsets[:, 0])
