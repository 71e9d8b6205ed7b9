"""An encoder of one's own: a ViT trained on shards by DINO self-distillation (multi-crop, centring, EMA teacher).

All photos are decoded once and stay in the device's memory; crops and colour changes are made there, so that the
accelerator and not the loader sets the pace.
"""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from oapseg.checkpoint.optimizer import optimizer_tensors, restore_optimizer, with_prefix, without_prefix
from oapseg.checkpoint.state import State
from oapseg.encode.encoder import Encoder, own_encoder
from oapseg.model.heads import ProjectionHead
from oapseg.monitor.laps import Laps, device_use
from oapseg.monitor.quality import Observer
from oapseg.params import EncoderParams
from oapseg.shards.read import Photos
from oapseg.shards.views import crop, random_boxes
from oapseg.train import augment
from oapseg.train.distill import Centre, cluster_health, cross_entropy, teacher_codes
from oapseg.train.distributed import Placement
from oapseg.train.schedules import cosine, linear, warmup_cosine
from oapseg.train.seeds import mix_seeds
from oapseg.train.teacher import follow, make_teacher

REFERENCE_BATCH = 256  # the batch that DINO's learning rate is stated for


class EncoderAndHead(nn.Module):
    """What is trained: the encoder's photo vector, projected onto the prototypes."""

    def __init__(self, encoder: Encoder, head: ProjectionHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
        return self.head(self.encoder(images))


class EncoderTraining:
    """DINO on photos held in memory. A `Task` of the loop; all its randomness comes from the step."""

    name = "encoder"

    def __init__(
        self,
        params: EncoderParams,
        photos: UInt8[Tensor, "M 3 S S"],
        placement: Placement,
        *,
        seed: int,
        observer: Observer | None = None,
    ) -> None:
        if params.batch % placement.world:
            raise ValueError(f"encoder.batch: {params.batch} must be a multiple of the {placement.world} ranks")
        if len(photos) < params.batch:
            raise ValueError(f"encoder.batch: {params.batch} is more than the {len(photos)} photos there are")
        self.params, self.placement, self.steps, self.seed = params, placement, params.steps, seed
        self.images = params.batch // placement.world
        self.observer = observer
        self.photos = photos.to(placement.device)
        torch.manual_seed(seed)
        encoder = own_encoder(
            width=params.width,
            depth=params.depth,
            heads=params.heads,
            patch_px=params.patch_px,
            image_px=params.global_px,
        )
        if placement.device.type == "cpu":
            encoder.use_plain_attention()
        head = ProjectionHead(params.width, params.head_hidden, params.bottleneck, params.prototypes)
        self.student = EncoderAndHead(encoder, head).to(placement.device)
        self.teacher = make_teacher(self.student)
        self.centre = Centre(params.prototypes).to(placement.device)
        matrices = [p for p in self.student.parameters() if p.ndim > 1]
        vectors = [p for p in self.student.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, fused=placement.device.type == "cuda")

    def step(self, step: int) -> dict[str, float]:
        params, observer = self.params, self.observer
        rate, temperature, momentum = self._schedule(step)
        measured = observer is not None and observer.due(step)
        laps = Laps(self.placement.device, exact=measured)
        views = self._views(step)
        laps("loader")
        with torch.no_grad(), self.placement.autocast():
            targets = self.teacher(torch.cat(views[:2]))
        laps("teacher")
        with self.placement.autocast():
            logits = torch.cat([self.student(torch.cat(views[:2])), *self._local_logits(views[2:])])
        laps("student")
        codes = teacher_codes(targets, self.centre.value, temperature).chunk(2)
        predictions = logits.chunk(len(views))
        pairs = [(t, s) for t in range(2) for s in range(len(views)) if s != t]
        losses = [cross_entropy(codes[t], predictions[s], params.student_temperature).mean() for t, s in pairs]
        loss = torch.stack(losses).mean()
        laps("loss")

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        laps("backward")
        if step < params.freeze_head_steps:
            self.student.head.prototypes.grad = None
        parameters = [p for p in self.student.parameters() if p.grad is not None]
        self.placement.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, params.grad_clip)
        self.optimizer.step()
        follow(self.teacher, self.student, momentum)
        self.centre.update(targets, params.centre_momentum, self.placement)
        laps("optimizer")
        values = {
            "loss": float(loss.detach()),
            "lr": rate,
            "momentum": momentum,
            "teacher_temperature": temperature,
            "student_temperature": params.student_temperature,
            "gradient_norm": float(norm),
            **cluster_health(torch.cat(codes)),
            **{f"seconds_{part}": seconds for part, seconds in laps.seconds.items()},
        }
        if observer is not None and measured:
            head = observer.measure_head(torch.cat(codes), targets, self.centre.value)
            head.pop(
                "teacher_sharpness", None
            )  # begins where the rule on it, which is made for masks, calls it undecided
            values |= head | device_use(self.placement.device)
        return values

    def state(self, step: int) -> State:
        tensors = {
            **with_prefix("student", self.student.state_dict()),
            **with_prefix("teacher", self.teacher.state_dict()),
            **with_prefix("centre", self.centre.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(self.optimizer, self.student)),
        }
        return State(step, self.teacher.encoder.vit.state_dict(), tensors)

    def restore(self, state: State) -> None:
        self.student.load_state_dict(without_prefix("student", state.tensors))
        self.teacher.load_state_dict(without_prefix("teacher", state.tensors))
        self.centre.load_state_dict(without_prefix("centre", state.tensors))
        restore_optimizer(self.optimizer, self.student, without_prefix("optimizer", state.tensors))

    def _schedule(self, step: int) -> tuple[float, float, float]:
        """Set learning rate and weight decay of this step; also the teacher's temperature and momentum."""
        params = self.params
        scale = params.batch / REFERENCE_BATCH
        rate = warmup_cosine(params.lr * scale, params.lr_end, step, params.steps, params.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.param_groups[0]["weight_decay"] = cosine(*params.weight_decay, step, params.steps)
        temperature = linear(*params.teacher_temperature, step, params.temperature_warmup_steps)
        return rate, temperature, cosine(params.momentum, 1.0, step, params.steps)

    def _local_logits(self, views: list[Float[Tensor, "B 3 s s"]]) -> list[Float[Tensor, "M K"]]:
        """The student's outputs for all local crops, in one pass."""
        return [self.student(torch.cat(views))] if views else []

    def _views(self, step: int) -> list[Float[Tensor, "B 3 s s"]]:
        """Two global and `local_count` local crops of this step's photos, the same whenever the step is run."""
        params, world, rank = self.params, self.placement.world, self.placement.rank
        batch = params.batch // world
        per_epoch = len(self.photos) // params.batch
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(self.photos), generator=torch.Generator().manual_seed(mix_seeds(self.seed, epoch)))
        start = place * params.batch + rank * batch
        photos = self.photos[order[start : start + batch].to(self.photos.device)].float() / 255
        generator = torch.Generator(photos.device).manual_seed(mix_seeds(self.seed, step, rank + 1))

        def view(side_px: int, scale: tuple[float, float], blurred: float, solarized: float) -> Tensor:
            boxes = random_boxes(batch, scale, generator)
            flipped = (torch.rand(batch, device=photos.device, generator=generator) < 0.5).float()
            images = augment.jitter_colour(crop(photos, boxes, flipped, side_px), generator)
            return augment.solarize(augment.blur(images, blurred, generator), solarized, generator)

        return [
            view(params.global_px, params.global_scale, 1.0, 0.0),
            view(params.global_px, params.global_scale, 0.1, 0.2),
            *(view(params.local_px, params.local_scale, 0.5, 0.0) for _ in range(params.local_count)),
        ]


def hold_photos(photos: Photos, side_px: int, *, limit: int, seed: int) -> UInt8[Tensor, "M 3 side_px side_px"]:
    """Photos decoded once and kept at one size; above `limit` photos a seeded choice of them."""
    chosen = list(range(len(photos)))
    if len(photos) > limit:
        chosen = sorted(torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed))[:limit].tolist())
    held = torch.empty(len(chosen), 3, side_px, side_px, dtype=torch.uint8)
    for place, sample in enumerate(photos.each(chosen)):
        image = sample.image.permute(2, 0, 1)[None].float()
        side = nn.functional.interpolate(image, (side_px, side_px), mode="bilinear", antialias=True)
        held[place] = side[0].round().clamp(0, 255).to(torch.uint8)
    return held
