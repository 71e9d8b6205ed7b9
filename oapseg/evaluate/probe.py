"""How much memory a generator takes for one photo, found out in a process of its own."""

import contextlib
import ctypes
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import torch

from oapseg.encode.patches import Patches
from oapseg.pool.generator import Generator

WARM_UP_CELLS = 8  # side of the corner of the grid that loads a generator's code before anything is measured
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): the peak of the resident set starts anew


class Probed(NamedTuple):
    """The most memory that any of the photos took, one at a time; or why that is not known."""

    peak_bytes: int | None
    failure: str | None = None
    killed: bool = False  # its process was, as the one that makes the masks would be


def probe(generator: Generator, photos: list[Patches]) -> Probed:
    """Run a generator on some photos in a fresh process, where nothing that was freed before hides what it takes.

    On a CPU by how much the resident set grows, code that is loaded left out; on CUDA what PyTorch allocates. Of a
    generator that fails on every photo, cannot be sent there or whose process is killed, it is said why.
    """
    device = photos[0].features.device.type
    arrays = [(each.features.cpu().numpy(), each.grid, _array(each.image), each.num_things) for each in photos]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as alone:
        try:
            return alone.submit(_probe, generator, arrays, device, torch.get_num_threads()).result()
        except BrokenProcessPool:
            return Probed(None, "its process was killed, as it is where memory runs out", killed=True)
        except Exception as error:  # noqa: BLE001  # of a generator that cannot be sent there
            return Probed(None, _reason(error))


def _probe(generator: Generator, arrays: list[Any], device: str, threads: int) -> Probed:
    torch.set_num_threads(threads)
    photos = [
        Patches(
            torch.from_numpy(features).to(device),
            grid,
            None if image is None else torch.from_numpy(image).to(device),
            things,
        )
        for features, grid, image, things in arrays
    ]
    warm_up(generator, photos[0])
    peaks, reasons = [], []
    for photo in photos:
        before = _restart(device)
        try:
            generator(photo)
            peaks.append(peak_bytes(device) - before)
        except Exception as error:  # noqa: BLE001  # whatever a generator raises is a photo's
            reasons.append(_reason(error))
    return Probed(max(peaks)) if peaks else Probed(None, reasons[0])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def warm_up(generator: Generator, photo: Patches) -> None:
    """Run a generator on a corner of a photo, for the code that it loads; what it thinks of that does not matter."""
    height, width = (min(side, WARM_UP_CELLS) for side in photo.grid)
    features = photo.features.view(*photo.grid, -1)[:height, :width].flatten(0, 1)
    with contextlib.suppress(Exception):
        generator(photo._replace(features=features, grid=(height, width)))


def _restart(device: str) -> int:
    """Bytes held now, with the peak set back to them."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system (glibc), or it would hide what comes
    with contextlib.suppress(OSError):
        CLEAR.write_text(RESET_PEAK)
    return peak_bytes(device)


def peak_bytes(device: str = "cpu") -> int:
    """The most memory that this process has held on a device so far.

    On a CPU the resident set since the process began its program, or since the peak was set back; where the system does
    not tell, what `getrusage` says, which may be the parent's.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _array(image: torch.Tensor | None) -> Any:
    return None if image is None else image.cpu().numpy()
