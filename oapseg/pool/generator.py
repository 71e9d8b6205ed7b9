"""What every generator of pseudo-masks is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch

from oapseg.encode.patches import Patches
from oapseg.masks import Masks


@runtime_checkable  # so that the tests check annotations with it
class Generator(Protocol):
    """Patch features of a photo to its masks, on the features' device and on their grid.

    A generator is a frozen dataclass whose fields are its section of `params.yaml`; it derives from this class.
    """

    def __call__(self, patches: Patches) -> Masks: ...

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo, one by one; a generator that does better together overrides this.

        Errors: as `check_patches`, before anything is computed.
        """
        check_patches(patches)
        return [self(photo) for photo in patches]


def check_patches(patches: list[Patches]) -> None:
    """Errors: `ValueError` that names the photo whose features are not finite or do not fit its grid."""
    for index, photo in enumerate(patches):
        height, width = photo.grid
        if len(photo.features) != height * width:
            raise ValueError(
                f"image {index} of the batch: {len(photo.features)} patches on a grid of {photo.grid}; "
                f"it must have {height * width}"
            )
        if not photo.features.isfinite().all():
            raise ValueError(f"image {index} of the batch: features are not finite (NaN or infinite)")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """True float32 without gradients, whatever the training loop around runs in: thresholds are compared."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
