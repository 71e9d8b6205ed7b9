"""Predict once, then score (section 5): the trained model and, beside it, the generator that it learned from.

In: a manifest of labelled photos, a model's folder, an encoder's folder. Out: predictions as COCO result JSON, and for
every score its value, 95 % interval, protocol, split and number of photos. A kind of score is one file with functions
from ground truth and predictions to `dict[str, Measured]`: `instances` (class-agnostic), `class_aware`. All of them
take the same resampled photos (`intervals`), so that any two scores can be compared photo by photo.

Beside the letters of `oapseg`: `T` IoU thresholds, `R` resamples of the photos.
"""
