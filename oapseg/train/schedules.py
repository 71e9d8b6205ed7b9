"""Values that change over training, as functions of the step alone."""

import math


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 to `end` at `steps`, by half a cosine; `end` from there on."""
    progress = min(step / max(steps, 1), 1.0)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def linear(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 to `end` at `steps` in a straight line; `end` from there on."""
    return end if step >= steps else start + (end - start) * step / steps


def warmup_cosine(peak: float, end: float, step: int, steps: int, warmup_steps: int) -> float:
    """Linear from nearly 0 to `peak` over `warmup_steps`, then by half a cosine to `end` at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return cosine(peak, end, step - warmup_steps, steps - warmup_steps)
