"""Predict once, then score (section 5.2): trained models and, beside them, the generator that they learned from.

In: a manifest of labelled photos and predictions of its photos. Out: for every score its value, 95 % interval and what
makes it comparable. The way of a photo: `predict` sees it and `predictions` keeps what was seen; `look` brings that
together with the labels, once, and reduces it to a few small arrays (`overlaps` of instances, `semantic` confusions,
`merge`d and `panoptic` segments, `saliency`). A kind of score is one file with functions from such arrays to
`dict[str, Measured]`: `instances`, `class_aware`, `semantic`, `panoptic`, `saliency`; `scores` names them all, and
`concepts` adds those of regions named by their features or by a CLIP (`text`, `clip`). Each takes resamples of the
photos (`intervals`), so that any two scores can be compared photo by photo. What a public benchmark's own protocol sets
in the place of the sections of `params.yaml` is put there by `benchmark.settings_of` alone.

Beside the letters of `oapseg`: `T` IoU thresholds, `R` resamples of the photos, `L` annotations, `M` classes.
"""
