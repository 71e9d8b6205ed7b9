"""An exported model in onnxruntime: photos in, masks at the photos' own size out, as `oapseg.load` gives them.

No weights of PyTorch are read; what is around the network (views, windows, overlaps, full size) is the same code.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from oapseg import storage
from oapseg.checkpoint.model import Chosen, Photo, in_batches
from oapseg.masks import Masks
from oapseg.model.predicted import Predicted
from oapseg.model.seen import Seen
from oapseg.model.segmenter import Look, look_at
from oapseg.use.export_graph import INPUT, META, OUTPUTS


class OnnxModel:
    """`model(images)` as `oapseg.checkpoint.model.Model` has it; `path` is the graph of the whole photo.

    The graphs of other sides lie beside it, under the names that it says. `providers` are onnxruntime's.

    Errors: `ValueError` where onnxruntime is not installed, or a file is missing or is none of ours.
    """

    def __init__(
        self, path: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 0
    ) -> None:
        self.sessions: dict[int, Any] = {}
        said = self._open(str(path), providers, threads)
        self.look = Look(**said["look"])
        self.names: dict[int, str | None] = {int(cluster): name for cluster, name in said["names"].items()}
        for name in said["others"]:
            self._open(storage.join(str(path).rpartition("/")[0] or ".", name), providers, threads)

    def __call__(
        self, images: Sequence[Photo], *, level: float | None = None, min_score: float = 0.0, batch: int = 8
    ) -> list[Masks]:
        """Masks of each photo at its own size, best first, as `Model` has them of a level and of scores."""
        chosen = Chosen.of(self.look, level, min_score, len(self.names))
        return [chosen.masks(each) for each in self._seen(images, chosen.look, batch)]

    def predict(self, images: Sequence[Photo], *, batch: int = 8) -> Iterator[Predicted]:
        """What is seen in each photo, on a grid; `batch` photos at a time."""
        return self._seen(images, self.look, batch)

    def _seen(self, images: Sequence[Photo], look: Look, batch: int) -> Iterator[Predicted]:
        for photos in in_batches(images, batch):
            yield from look_at(photos, look, self.see)

    def see(self, views: Float[Tensor, "B 3 H W"]) -> list[Seen]:
        """All queries of views of one side."""
        logits, scores, kinds, clusters = map(
            torch.from_numpy, self.sessions[views.shape[-1]].run(list(OUTPUTS), {INPUT: views.numpy()})
        )
        return [Seen(*each) for each in zip(logits.float(), scores.float(), clusters, kinds, strict=True)]

    def _open(self, path: str, providers: Sequence[str], threads: int) -> dict[str, Any]:
        """Take a graph up by its side; what it says of itself."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(f"onnxruntime is missing: pip install 'oapseg[export]' ({error})") from None
        try:
            content = storage.read_bytes(path)
        except FileNotFoundError:
            raise ValueError(f"{path}: no such graph; write it with `oapseg export`") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(content, options, providers=list(providers))
            said: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map[META])
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common kind but this
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: no graph of `oapseg export` ({type(error).__name__}: {line})") from None
        self.sessions[said["side_px"]] = session
        return said
