"""Patch features to pseudo-masks, inside each training step (section 4.2).

In: `Patches` of a photo (L2-normalised keys on a grid). Out: `Masks` on that grid. One file a generator, all of one
protocol; the pure graph functions that they share stand beside them. A generator is built from its section of
`params.yaml`: `OAP(**params.pool.oap)`.
"""

from oapseg.pool.generator import Generator
from oapseg.pool.oap import OAP

GENERATORS: dict[str, type[Generator]] = {"oap": OAP}
