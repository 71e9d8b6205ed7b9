"""Masks of every photo of a set, by the generator and by each model: made once, so that scoring needs no GPU."""

import argparse
import hashlib
import json
from dataclasses import asdict
from typing import Any

from oapseg import storage
from oapseg.checkpoint.cluster_names import read_names
from oapseg.checkpoint.export import load_model, model_hash
from oapseg.encode.load import load_folder
from oapseg.evaluate.generators import check_name, decided_by, make_generator
from oapseg.evaluate.named import name_results
from oapseg.evaluate.pooling import choice_of, dense_crf
from oapseg.evaluate.predict import (
    EQUAL_RULE,
    GENERATOR_REGIONS,
    MODEL_REGIONS,
    check_side,
    choose_device,
    generator_predictor,
    generator_views,
    model_predictor,
    model_rule,
    model_views,
)
from oapseg.evaluate.predictions import Maker, Predict, write_makers, write_predictions
from oapseg.params import Params, load_params
from oapseg.shards.manifest import Manifest, load_manifest

WITHOUT_EFFECT = {"device", "batch", "train"}  # on a prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", required=True, help="folder of the plain encoder that the generator pools")
    parser.add_argument(
        "--model",
        required=True,
        nargs=2,
        action="append",
        metavar=("NAME", "FOLDER"),
        help="a model, or several",
    )
    parser.add_argument("--shards", required=True, help="shards of the photos")
    parser.add_argument("--train-shards", help="shards to predict too, where predict.train is true")
    parser.add_argument("--out", required=True, help="folder for predictions, one below it for each maker")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    sets = {args.out: load_manifest(args.shards)}
    if params.predict.train:
        if args.train_shards is None:
            raise ValueError("predict.train is true, so --train-shards must name shards")
        sets[storage.join(args.out, "train")] = load_manifest(args.train_shards)
    predict_sets(sets, args.encoder, dict(args.model), params)


def predict_sets(
    sets: dict[str, Manifest], encoder_folder: str, models: dict[str, str], params: Params, section: str = "predict"
) -> None:
    """Predictions of each set of photos to its folder, by the generator and by each model.

    `section` is where the sides of the views stand, for the line of an error.
    """
    name = params.predict.generator
    check_name(name, "predict.generator")
    device = choose_device(params.predict.device)
    encoder = load_folder(encoder_folder).to(device)
    check_side(params.predict, encoder, section)
    generator = make_generator(name, params, encoder)
    crf, choice = dense_crf(params), choice_of(params)
    pooled = generator_predictor(encoder, generator.batch, params.predict, crf, choice)
    pooled_from = _encoder_hash(encoder_folder)
    decided = [*decided_by(name, params), pooled_from, *([] if choice is None else [asdict(choice)])]
    views = generator_views(params.predict, crf, choice)
    makers = {"generator": Maker(EQUAL_RULE, GENERATOR_REGIONS, pooled_from, name, views)}
    for out, manifest in sets.items():
        _write(out, "generator", manifest, pooled, params, decided)
    for name, folder in models.items():
        segmenter = load_model(folder, device)
        check_side(params.predict, segmenter.backbone.encoder, section)
        checkpoint, views = model_hash(folder), model_views(params.predict, crf)
        makers[name] = Maker(model_rule(params.predict), MODEL_REGIONS, checkpoint, views=views)
        for out, manifest in sets.items():
            _write(out, name, manifest, model_predictor(segmenter, params.predict, crf), params, [checkpoint])
            name_results(storage.join(out, name), read_names(folder))
    for out in sets:
        write_makers(out, makers)


def _write(out: str, name: str, manifest: Manifest, predict: Predict, params: Params, decided: list[Any]) -> None:
    settings = params.predict.model_dump(exclude=WITHOUT_EFFECT)
    refined = params.refine.crf.model_dump() if params.predict.crf else None
    content = [decided, settings, refined, [shard.sha256 for shard in manifest.shards]]
    write_predictions(
        storage.join(out, name),
        manifest,
        predict,
        batch=params.predict.batch,
        fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        what=f"{name}, {storage.join(out).rsplit('/', 1)[-1]}",
    )


def _encoder_hash(folder: str) -> str:
    """One hash of all files of an encoder's folder."""
    content = {name: storage.sha256(storage.join(folder, name)) for name in storage.list_files(folder)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
