"""From parameters and manifests to a trained model on disk: what the steps pretrain, finetune and encoder call."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from oapseg import storage
from oapseg.checkpoint.export import save_model
from oapseg.checkpoint.state import latest_checkpoint, load_checkpoint
from oapseg.encode.load import load_folder, save_folder
from oapseg.model.segmenter import Segmenter
from oapseg.monitor.quality import Observer
from oapseg.params import Params, PretrainParams, Section, recipe
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import FILE_NAME, Manifest
from oapseg.shards.read import Photos
from oapseg.train.data import ToViews, batches
from oapseg.train.distributed import Placement, place
from oapseg.train.encoder import EncoderTraining, hold_photos
from oapseg.train.loop import fit
from oapseg.train.segmenter import SegmenterTraining
from oapseg.train.task import Run

WITHOUT_EFFECT = ("workers", "device", "checkpoint_every_s", "log_every", "train")  # keys that no result depends on
MADE_BY = ("pool.oap", "model", "pretrain")  # sections behind every segmenter


def pretrain(params: Params, manifest: Manifest, encoder_folder: Path, out: Path) -> Path:
    """Train a segmenter from an encoder; the model folder below `out` is returned."""
    settings = params.pretrain
    placement = place(settings.device, settings.precision, "pretrain")
    task = _segmenter_task("pretrain", params, settings, [(manifest, 1.0)], encoder_folder, placement)
    fingerprint = fingerprint_of(
        [params.pool.oap, params.model, settings], [params.seed], [manifest], [encoder_folder / "model.safetensors"]
    )
    return _train(
        task,
        params,
        _run(params, settings, out, [manifest], recipe(params, *MADE_BY, without=WITHOUT_EFFECT), fingerprint),
    )


def finetune(params: Params, sets: dict[str, Manifest], encoder_folder: Path, start: Path, out: Path) -> Path:
    """Go on from the newest checkpoint of the pretraining in `start`, on the mix of sets that the parameters name."""
    settings = params.finetune.over(params.pretrain)
    unknown = sorted(set(params.finetune.mix) - set(sets))
    if unknown:
        raise ValueError(f"finetune.mix: no shards for {', '.join(unknown)}; given are {', '.join(sorted(sets))}")
    checkpoint = latest_checkpoint(start / "checkpoints")
    if checkpoint is None:
        raise ValueError(f"{start}/checkpoints: no whole checkpoint to fine-tune from; run pretrain first")
    mix = [(sets[name], weight) for name, weight in params.finetune.mix.items()]
    placement = place(settings.device, settings.precision, "pretrain")
    fingerprint = fingerprint_of(
        [params.pool.oap, params.model, settings, params.finetune],
        [params.seed],
        [manifest for manifest, _ in mix],
        [checkpoint / "sha256.json"],
    )
    task = _segmenter_task("finetune", params, settings, mix, encoder_folder, placement)
    task.begin_from(load_checkpoint(checkpoint))
    manifests = [manifest for manifest, _ in mix]
    made_by = recipe(params, *MADE_BY, "finetune", without=WITHOUT_EFFECT)
    return _train(task, params, _run(params, settings, out, manifests, made_by, fingerprint))


def train_encoder(params: Params, manifest: Manifest, out: Path) -> Path:
    """Train a ViT by DINO on the photos of a manifest; `out` becomes an encoder folder."""
    settings = params.encoder
    placement = place(settings.device, settings.precision, "encoder")
    held = hold_photos(Photos(manifest), settings.photo_px, limit=settings.max_photos, seed=params.seed)
    observer = Observer(every=params.monitor.every, photos=0, levels=0)
    task = EncoderTraining(settings, held, placement, seed=params.seed, observer=observer)
    run = _run(
        params,
        settings,
        out,
        [manifest],
        recipe(params, "encoder", without=WITHOUT_EFFECT),
        fingerprint_of([settings], [params.seed], [manifest], []),
    )
    final = fit(task, run)
    if final is not None:
        encoder = task.teacher.encoder
        encoder.vit.load_state_dict(final.model)
        save_folder(encoder, out, notes={"recipe": settings.model_dump(), "photos": len(held)})
    return out


def fingerprint_of(
    sections: Sequence[Section], numbers: Sequence[int], manifests: Sequence[Manifest], files: Sequence[Path]
) -> str:
    """A hash of all that decides a training's result; keys without effect on it do not count."""
    content: list[Any] = [section.model_dump(exclude=set(WITHOUT_EFFECT), mode="json") for section in sections]
    content += [*numbers, [shard.sha256 for manifest in manifests for shard in manifest.shards]]
    content += [storage.sha256(file) for file in files]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _segmenter_task(
    name: str,
    params: Params,
    settings: PretrainParams,
    mix: list[tuple[Manifest, float]],
    encoder_folder: Path,
    placement: Placement,
) -> SegmenterTraining:
    for manifest, _ in mix:
        if manifest.num_samples == 0:
            raise ValueError(f"{manifest.location}/{FILE_NAME}: no photo to learn from")
    encoder = load_folder(encoder_folder)
    for key in ("image_px", "local_px"):
        if getattr(settings, key) % encoder.patch_px:
            value, patch = getattr(settings, key), encoder.patch_px
            raise ValueError(f"pretrain.{key}: {value} must be a multiple of the encoder's patch, {patch} px")
    torch.manual_seed(params.seed)
    return SegmenterTraining(
        name,
        settings,
        Segmenter(encoder, params.model),
        OAP(**params.pool.oap),
        batches(mix, ToViews(settings, params.seed), settings, placement, seed=params.seed, section="pretrain"),
        sum(manifest.num_samples for manifest, _ in mix) / settings.batch,
        placement,
        seed=params.seed,
        observer=Observer(every=params.monitor.every, photos=params.monitor.photos, levels=len(params.pool.oap.tau)),
    )


def _train(task: SegmenterTraining, params: Params, run: Run) -> Path:
    """Fit, then write the teacher, which alone is kept for use."""
    final = fit(task, run)
    folder = run.folder / "model"
    if final is not None:
        task.teacher.load_state_dict(final.model)
        save_model(folder, task.teacher, params.model, run.params_yaml, image_px=task.params.image_px)
    return folder


def _run(
    params: Params, settings: Any, out: Path, manifests: Sequence[Manifest], params_yaml: str, fingerprint: str
) -> Run:
    skipped = sum(len(names) for manifest in manifests for names in manifest.skipped.values())
    return Run(
        out,
        params_yaml,
        fingerprint,
        settings.checkpoint_every_s,
        settings.log_every,
        params.monitor,
        {"skipped_photos": float(skipped)},
    )
