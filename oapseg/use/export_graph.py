"""The network as an ONNX graph: views of one side in, every query's mask, score, kind and cluster out.

Opset 18. The batch is dynamic. The side of a view is fixed: positions, reference points and the sizes of all levels
follow from it and become constants, which runtimes plan for; a model looks at one or two sides only (the whole photo
and its windows), and each side is a graph of its own.

Deformable attention samples by explicit gathers. The operator GridSample would be shorter, but runtimes do not agree
on it: TensorRT 10.13 to 11.1 gives wrong values in just this place and says nothing (its issues 4646 and 4813), and so
does the WebGPU part of onnxruntime (its issue 32275). `sampling: grid_sample` is for runtimes whose GridSample is
right, such as onnxruntime's CPU part, where it is about twice as fast.
"""

import contextlib
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oapseg.checkpoint.model import Model
from oapseg.model.segmenter import Segmenter, confidence

OPSET: Final = 18
INPUT: Final = "views"
OUTPUTS: Final = ("mask_logits", "scores", "kinds", "clusters")
META: Final = "oapseg"  # key of what a graph says of itself, as JSON
Sampling = Literal["gathers", "grid_sample"]


class Queries(nn.Module):
    """What `Segmenter.predict` asks of one view, as tensors alone."""

    def __init__(self, segmenter: Segmenter, threshold: float) -> None:
        super().__init__()
        self.segmenter, self.threshold = segmenter, threshold

    def forward(
        self, views: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B Q h w"], Float[Tensor, "B Q"], Int[Tensor, "B Q"], Int[Tensor, "B Q"]]:
        last = self.segmenter(views)[-1]
        inside = confidence(last.mask_logits.flatten(0, 1), self.threshold).view_as(last.objectness)
        clusters = self.segmenter.query_logits(last.queries).argmax(-1)
        kinds = self.segmenter.decoder.kind.expand(views.shape[0], -1)
        return last.mask_logits, last.objectness.sigmoid() * inside, kinds, clusters


class Gathers(TorchFunctionMode):
    """While it lasts, `grid_sample` is made of operators that mean the same everywhere."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.grid_sample:
            return sample_by_gathers(*args[:2])
        return func(*args, **(kwargs or {}))


def sample_by_gathers(image: Float[Tensor, "B C h w"], grid: Float[Tensor, "B P Q 2"]) -> Float[Tensor, "B C P Q"]:
    """`grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)`."""
    batch, channels, height, width = image.shape
    rows = image.permute(0, 2, 3, 1).reshape(-1, channels)
    size = torch.tensor([width, height], device=grid.device)
    place = (grid + 1) * (size / 2) - 0.5
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], device=grid.device)
    at = place.floor() + corners.view(4, 1, 1, 1, 2)
    inside = (at >= 0) & (at < size)
    weight = (1 - (at - place).abs()) * inside
    cell = torch.minimum(at.clamp(min=0).long(), size - 1) * torch.tensor([1, width], device=grid.device)
    first = torch.arange(batch, device=grid.device).view(-1, 1, 1) * (height * width)
    taken = torch.index_select(rows, 0, (cell[..., 0] + cell[..., 1] + first).flatten())
    shares = (weight[..., 0] * weight[..., 1]).reshape(4, -1, 1)
    total = (taken.view(4, -1, channels) * shares).sum(0)
    return total.view(*grid.shape[:3], channels).permute(0, 3, 1, 2)


def sides_of(model: Model) -> list[int]:
    """The sides that the model looks at, the whole photo's first."""
    look = model.look
    return list(dict.fromkeys([look.image_px, *look.scales, *([look.window_px] if look.windows > 1 else [])]))


def export_graph(model: Model, side_px: int, sampling: Sampling, notes: dict[str, Any]) -> bytes:
    """A graph of views of one side, checked by ONNX's own checker; `notes` go into what it says of itself.

    Errors: `ValueError` where the extra `export` is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # folds constants
        import onnxscript.optimizer
    except ImportError as error:
        raise ValueError(
            f"export needs onnx, onnxruntime and onnxscript: pip install 'oapseg[export]' ({error})"
        ) from None
    queries = Queries(model.segmenter, model.look.mask_threshold).cpu().eval()
    views = torch.rand(2, 3, side_px, side_px)
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of the exporter, on its own inner workings
        with Gathers() if sampling == "gathers" else contextlib.nullcontext():
            batch = ({0: torch.export.Dim("batch", min=1)},)
            program = torch.export.export(queries, (views,), dynamic_shapes=batch, strict=False)
        written = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            optimize=False,  # it takes minutes, and folding constants is all that is needed
            input_names=[INPUT],
            output_names=OUTPUTS,
        )
        assert written is not None
        onnxscript.optimizer.fold_constants(written.model)  # lists of tensors too, which TensorRT does not know
        onnxscript.optimizer.remove_unused_nodes(written.model)
        path = Path(folder) / "graph.onnx"
        written.save(str(path))
        graph = onnx.load_from_string(_folded(path))
    del graph.metadata_props[:]
    for node in graph.graph.node:
        del node.metadata_props[:]  # where each came from in this very environment
        node.doc_string = ""
    used = {node.domain for node in graph.graph.node}
    kept = [each for each in graph.opset_import if each.domain in used]
    del graph.opset_import[:]
    graph.opset_import.extend(kept)
    names = {str(cluster): name for cluster, name in model.names.items()}
    said = {"look": asdict(model.look), "names": names, "side_px": side_px, "sampling": sampling} | notes
    onnx.helper.set_model_props(graph, {META: json.dumps(said, sort_keys=True)})
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _folded(path: Path) -> bytes:
    """The graph with what is constant in it computed, in standard operators alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path.with_name("folded.onnx"))
    options.log_severity_level = 3  # errors
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return path.with_name("folded.onnx").read_bytes()
