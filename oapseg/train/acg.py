"""Training the Adaptive Concept Generator on the patches of a frozen encoder (ACSeg, sections 3.4 and 4.1)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg.checkpoint.optimizer import optimizer_tensors, restore_optimizer, with_prefix, without_prefix
from oapseg.checkpoint.state import State
from oapseg.encode.encoder import Encoder, encoder_hash
from oapseg.encode.load import load_folder
from oapseg.monitor.laps import Laps, device_use
from oapseg.monitor.quality import Observer
from oapseg.params import ACGParams, Params, recipe
from oapseg.pool.concept_generator import ConceptGenerator, Size, save_generator
from oapseg.pool.modularity import assignment, modularity_loss
from oapseg.shards.manifest import FILE_NAME, Manifest
from oapseg.shards.read import Sample
from oapseg.shards.stream import Ticket
from oapseg.train.data import batches
from oapseg.train.distributed import Placement, place
from oapseg.train.loop import fit
from oapseg.train.run import WITHOUT_EFFECT, fingerprint_of
from oapseg.train.task import Run

WEIGHTS = "acg.safetensors"

Photo = UInt8[Tensor, "_H _W 3"]


class ConceptTraining:
    """Concepts of whole photos, whose modularity rises. A `Task` of the loop; the encoder stays as it is.

    `batches_from(step)` yields this rank's photos of that step and of each one after it.
    """

    name = "acg"

    def __init__(
        self,
        params: ACGParams,
        encoder: Encoder,
        batches_from: Callable[[int], Iterator[list[Photo]]],
        placement: Placement,
        *,
        seed: int,
        observer: Observer | None = None,
    ) -> None:
        self.params, self.placement, self.steps, self.batches_from = params, placement, params.steps, batches_from
        self.images = params.batch // placement.world
        self.observer = observer
        self._batches: Iterator[list[Photo]] | None = None
        self.encoder = encoder.to(placement.device)
        torch.manual_seed(seed)
        size = Size(encoder.channels, params.prototypes, params.updates, params.heads, params.ffn)
        self.generator = ConceptGenerator(size).to(placement.device).train()
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=params.lr, weight_decay=params.weight_decay)

    def step(self, step: int) -> dict[str, float]:
        measured = self.observer is not None and self.observer.due(step)
        laps = Laps(self.placement.device, exact=measured)
        if self._batches is None:
            self._batches = self.batches_from(step)
        photos = next(self._batches)
        laps("loader")
        patches = self.encoder.patches(photos, self.params.image_px)
        features = torch.stack([photo.features for photo in patches])
        laps("teacher")  # what is learned from: the frozen encoder
        strength = assignment(features, self.generator(features))
        laps("student")
        loss = modularity_loss(features, strength)
        laps("loss")

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        laps("backward")
        self.placement.average_gradients(list(self.generator.parameters()))
        self.optimizer.step()
        laps("optimizer")
        used = torch.zeros_like(strength[:, 0]).scatter_(1, strength.argmax(2), 1.0)
        return {
            "loss": float(loss.detach()),
            "concepts": float(used.sum(1).mean()),
            **{f"seconds_{part}": seconds for part, seconds in laps.seconds.items()},
            **(device_use(self.placement.device) if measured else {}),
        }

    def state(self, step: int) -> State:
        tensors = with_prefix("optimizer", optimizer_tensors(self.optimizer, self.generator))
        return State(step, dict(self.generator.state_dict()), tensors, {"draw": step * self.params.batch})

    def restore(self, state: State) -> None:
        self.generator.load_state_dict(state.model)
        restore_optimizer(self.optimizer, self.generator, without_prefix("optimizer", state.tensors))


def train_concepts(params: Params, manifest: Manifest, encoder_folder: Path, out: Path) -> Path:
    """Train on the photos of a manifest; the file of weights below `out` is returned."""
    settings = params.acg
    if manifest.num_samples == 0:
        raise ValueError(f"{manifest.location}/{FILE_NAME}: no photo to learn from")
    placement = place(settings.device, "fp32", "acg")
    encoder = load_folder(encoder_folder)
    if settings.image_px % encoder.patch_px:
        raise ValueError(
            f"acg.image_px: {settings.image_px} must be a multiple of the encoder's patch, {encoder.patch_px} px"
        )
    if encoder.channels % settings.heads:
        raise ValueError(f"acg.heads: {settings.heads} must divide the encoder's {encoder.channels} channels")
    task = ConceptTraining(
        settings,
        encoder,
        batches([(manifest, 1.0)], image_of, settings, placement, seed=params.seed, section="acg"),
        placement,
        seed=params.seed,
        observer=Observer(every=params.monitor.every, photos=0, levels=0),
    )
    fingerprint = fingerprint_of([settings], [params.seed], [manifest], [encoder_folder / "model.safetensors"])
    params_yaml = recipe(params, "acg", without=WITHOUT_EFFECT)
    final = fit(
        task, Run(out, params_yaml, fingerprint, settings.checkpoint_every_s, settings.log_every, params.monitor)
    )
    if final is not None:
        task.generator.load_state_dict(final.model)
        save_generator(task.generator, out / WEIGHTS, encoder_hash(encoder))
    return out / WEIGHTS


def image_of(sample: Sample, _ticket: Ticket) -> Photo:
    return sample.image
