"""The time of a step by part, where the step itself says which part has just ended."""

import contextlib
import sys
import time
from collections import defaultdict

import torch


class Laps:
    """`laps("pool")` at the end of a part gives it the time since the part before.

    On an accelerator each lap waits for the device, so it is `exact` for steps that are measured, and otherwise counts
    what the host spends alone.
    """

    def __init__(self, device: torch.device, *, exact: bool) -> None:
        self.device, self.exact = device, exact and device.type == "cuda"
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = self._now()

    def __call__(self, part: str) -> None:
        now = self._now()
        self.seconds[part] += now - self._last
        self._last = now

    def _now(self) -> float:
        if self.exact:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def device_use(device: torch.device) -> dict[str, float]:
    """Memory in bytes and utilisation in [0, 1] of a CUDA device, what can be had of them; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    found = {
        "gpu_memory": float(torch.cuda.memory_allocated(device)),
        "gpu_memory_peak": float(torch.cuda.max_memory_allocated(device)),
    }
    with contextlib.suppress(ImportError, RuntimeError, *_nvml_errors()):  # NVML is not there, or does not answer
        found["gpu_utilisation"] = torch.cuda.utilization(device) / 100
    return found


def _nvml_errors() -> tuple[type[Exception], ...]:
    """What NVML itself raises, of a slice of a device (MIG) for instance: no `RuntimeError`."""
    nvml = sys.modules.get("pynvml")  # torch imports it where it is installed
    return () if nvml is None else (nvml.NVMLError,)
