"""How good an encoder is for pooling: class-agnostic scores of its OAP masks, for both votes and several thresholds.

    python benchmarks/encoder.py work/shards/val                      # the encoder that params.yaml names
    python benchmarks/encoder.py SHARDS --encoder FOLDER --photos 206

This is the number in the starter encoder's card, and what decided the default of `pool.oap.vote`.
"""

import argparse
import dataclasses
import time
from itertools import islice, product
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from oapseg.encode.load import load_encoder, load_folder
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.instances import score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import by_photo, find_overlaps
from oapseg.evaluate.predict import generator_predictor
from oapseg.params import default_params_path, load_params
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos, Sample

PAPER_TAU = (0.8, 0.7, 0.6, 0.5, 0.4)
VOTES: tuple[Literal["sum", "mean"], ...] = ("sum", "mean")
ROUNDS: tuple[Literal[1, "stable"], ...] = (1, "stable")
COLUMNS = ("mask_AP", "mask_AP50", "mask_AR100", "box_AP50", "box_AR100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="labelled shards")
    parser.add_argument("--encoder", help="an encoder's folder; without it, the one that params.yaml names")
    parser.add_argument("--photos", type=int, default=10**9, help="the first so many labelled photos")
    parser.add_argument("--params", default=str(default_params_path()))
    args = parser.parse_args()
    params = load_params(args.params)
    encoder = load_folder(args.encoder) if args.encoder else load_encoder(params.encode)
    manifest = load_manifest(args.shards)
    truth = load_ground_truth(manifest)
    photos = list(islice(Photos(manifest), args.photos))
    truth = _only(truth, photos)
    resamples = resample_photos(len(truth["images"]), 0, params.seed)
    base = OAP(**params.pool.oap)

    table = Table(title=f"OAP on {len(photos)} photos at {params.predict.image_px} px, percent", title_justify="left")
    for heading in ("tau", "vote", "rounds", "masks", *COLUMNS, "ms a photo"):
        table.add_column(heading, no_wrap=True)
    for tau, vote, rounds in product((PAPER_TAU, tuple(base.tau)), VOTES, ROUNDS):
        generator = dataclasses.replace(base, tau=tau, vote=vote, rounds=rounds)
        start = time.perf_counter()
        predict = generator_predictor(encoder, generator.batch, params.predict)
        found = [result for photo in photos for each in predict([photo]) for result in each.results]
        elapsed_ms = 1000 * (time.perf_counter() - start) / len(photos)
        overlaps = find_overlaps(by_photo(truth, found))
        scores = score_class_agnostic(overlaps, resamples, params.evaluate.max_dets)
        instances = sum(mask["kind"] == "instance" for mask in found) / len(photos)
        cells = [f"{100 * scores[column].value:.2f}" for column in COLUMNS]
        table.add_row(f"{tau[0]}..{tau[-1]}", vote, str(rounds), f"{instances:.1f}", *cells, f"{elapsed_ms:.0f}")
    Console(width=140).print(table)


def _only(truth: dict[str, Any], photos: list[Sample]) -> dict[str, Any]:
    """The ground truth of some of the photos."""
    kept = {photo.labels["image_id"] for photo in photos}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in kept],
        "annotations": [each for each in truth["annotations"] if each["image_id"] in kept],
    }


if __name__ == "__main__":
    main()
