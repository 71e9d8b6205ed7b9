"""What every generator of pseudo-masks is."""

from typing import Protocol, runtime_checkable

from oapseg.encode.patches import Patches
from oapseg.masks import Masks


@runtime_checkable  # so that the tests check annotations with it
class Generator(Protocol):
    """Patch features of a photo to its masks, on the features' device and on their grid.

    A generator is a frozen dataclass whose fields are its section of `params.yaml`; it derives from this class.
    """

    def __call__(self, patches: Patches) -> Masks: ...

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo, one by one; a generator that does better together overrides this."""
        return [self(photo) for photo in patches]
