"""Masks made better by looks at the photo and at their own shape.

In: masks or probabilities of labels, and where needed the photo. Out: the same, refined. `crf` is the dense CRF that
MaskCut, ProMerge and STEGO end with; `regions` has parts, holes, copies and small masks; `levels` cuts through a
hierarchy of masks, from parts to wholes.
"""
