"""Patch features to pseudo-masks, inside each training step (section 4.2).

In: `Patches` of a photo (L2-normalised keys on a grid). Out: `Masks` on that grid. One file a generator, all of one
protocol; the pure graph functions that they share stand beside them. A generator is built from its section of
`params.yaml`: `OAP(**params.pool.oap)`.
"""

from oapseg.pool.acseg import ACSeg
from oapseg.pool.deep_spectral import DeepSpectral
from oapseg.pool.divide_conquer import DivideConquer
from oapseg.pool.generator import Generator
from oapseg.pool.maskcut import MaskCut
from oapseg.pool.multicut import MultiCut
from oapseg.pool.oap import OAP
from oapseg.pool.promerge import ProMerge
from oapseg.pool.tokencut import TokenCut

GENERATORS: dict[str, type[Generator]] = {
    "oap": OAP,
    "tokencut": TokenCut,
    "maskcut": MaskCut,
    "divide_conquer": DivideConquer,
    "deep_spectral": DeepSpectral,
    "promerge": ProMerge,
    "multicut": MultiCut,
    "acseg": ACSeg,
}
