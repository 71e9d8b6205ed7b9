"""A graph at fewer bits: half precision, or whole numbers of eight bits for the weights of matrix products."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

Reduce = Callable[[bytes], bytes]


def half(graph: bytes) -> bytes:
    """Weights and arithmetic at fp16, inputs and outputs at fp32.

    What finds places stays at fp32: fp16 has 11 bits, too few for a position on a grid of hundreds of cells.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    places = ["Floor", "Abs", "Sub", "Less", "GreaterOrEqual", "Max", "Min", "Range", "Cast", "GridSample", "Resize"]
    converted = convert_float_to_float16(
        onnx.load_from_string(graph), keep_io_types=True, op_block_list=places, disable_shape_infer=False
    )
    made: set[str] = set()
    nodes = list(converted.graph.node)
    del converted.graph.node[:]
    for node in nodes:
        if node.output[0] not in made:  # the converter writes a cast of a value anew for each of its readers
            converted.graph.node.append(node)
            made.update(node.output)
    content: bytes = converted.SerializeToString(deterministic=True)
    return content


def whole_numbers(graph: bytes) -> bytes:
    """Weights of matrix products at int8, a scale for each column; activations are scaled as they come (dynamic)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        source.write_bytes(graph)
        quantize_dynamic(
            source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )
        return target.read_bytes()


REDUCED: Final[dict[str, Reduce]] = {"fp32": bytes, "fp16": half, "int8": whole_numbers}
