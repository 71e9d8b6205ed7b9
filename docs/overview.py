"""The picture of the README, from the embedded sample and the model that `make repro` trained on it.

    python -m docs.overview

A row a photo: the photo, its annotations, the masks of Online Agglomerative Pooling, the model's. For each annotation
the mask of highest IoU is shown, in the annotation's colour; the last column shows the model's masks as it ranks them.
"""

import io
from pathlib import Path

import torch
from PIL import Image

from components.report import scored_photos
from oapseg import storage
from oapseg.report.overlay import captioned
from oapseg.report.photos import pictures

ROWS = 4
CAPTIONS = ("annotations", "OAP, best for each", "model, best for each", "model, by rank")
JPEG_QUALITY = 82


def main() -> None:
    rows = []
    for photo in scored_photos("work/predict", "work/shards/val", ROWS):
        drawn = pictures(photo.image, photo.annotations, photo.generator, photo.model)
        panels = zip(CAPTIONS, (picture for picture, _ in drawn), strict=True)
        rows.append(captioned([("photo", photo.image), *panels]))
    data = io.BytesIO()
    Image.fromarray(torch.cat(rows).numpy()).save(data, "JPEG", quality=JPEG_QUALITY, optimize=True)
    path = Path(__file__).with_name("overview.jpg")
    storage.write_bytes(path, data.getvalue())
    print(f"{path}: {len(data.getvalue()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
