"""Learning from images alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fewlabels.contracts import Encoder
from fewlabels.data.batches import Batches, as_tensor, to_float
from fewlabels.data.selection import Images, select
from fewlabels.errors import ConfigError
from fewlabels.pretext.objective import HasLatents, Pretext, Reconstructs
from fewlabels.randomness import derive_seed, generator, numpy_generator
from fewlabels.training.device import Compute
from fewlabels.training.trainer import PhaseResult
from fewlabels.workflows.phases import Context, image_shape

MAX_HELD_OUT = 1_000
"""Images held out of pretraining to see whether its loss falls on unseen ones."""

Probe = Callable[[Pretext], dict[str, float]]
"""From an objective in training to named figures for the history."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder that has seen the images, and what it was trained with.

    Attributes:
        objective: the trained objective, on the CPU or the device it trained on.
        encoder: its encoder.
        phase: the training's course.
        held_out: positions, within the images given, that it was not trained on.
    """

    objective: Pretext
    encoder: Encoder
    phase: PhaseResult
    held_out: npt.NDArray[np.intp]


def build_objective(context: Context, images: Images) -> Pretext:
    """The pretext objective of the settings over a new encoder.

    Raises:
        ConfigError: the objective does not go with the network or the other settings.
    """
    settings = context.settings
    encoder = context.new_encoder(images, "pretrain")
    objective: Pretext = settings.pretext.build(
        encoder, settings.network, generator(context.seed, "pretrain", "decoder")
    )
    return objective


def check_pretext(context: Context, images: Images) -> None:
    """Refuse what cannot work, and warn of what can hardly be meant, before anything runs.

    Raises:
        ConfigError: several views that are all the same, single images to tell apart, or an
            objective that does not go with the network.
    """
    settings, shape = context.settings, image_shape(images)
    name = settings.pretext.name
    if settings.pretext.num_views > 1:
        if context.view("contrast", images) is None:
            raise ConfigError(
                f"{name} compares differently augmented views of an image; without augmentation "
                "they are all the same. Set augment.name to auto, or use another objective."
            )
        if settings.pretraining.batch_size < 2:
            raise ConfigError(
                f"{name} compares an image with the others of its batch. Set "
                "pretraining.batch_size to 2 at least; 256 is usual."
            )
    objective = build_objective(context, images[:1])
    if settings.pretraining.patience and not _judges(objective):
        raise ConfigError(
            f"No loss of {name} says how good its images are, so none can say when to stop. Set "
            "pretraining.patience to 0."
        )
    pixels = int(np.prod(shape))
    if isinstance(objective, HasLatents) and objective.may_copy and objective.num_latents >= pixels:
        warnings.warn(
            f"The images have {pixels:,} values and the latent {objective.num_latents:,}: it may "
            "copy them without learning anything. Use a narrower one.",
            stacklevel=2,
        )


def _judges(objective: Pretext) -> bool:
    """Whether it has a loss on unseen images."""
    return type(objective).judges_unseen


def pretrain(context: Context, images: Images, probe: Probe | None = None) -> Pretrained:
    """Train an encoder on images without labels.

    Args:
        context: settings and machine.
        images: uint8 or float32 (N, C, H, W), test images not among them; not copied.
        probe: asked after each epoch how good the features are; None for not at all.
    """
    objective = build_objective(context, images)
    held_out, trained = _hold_out(len(images), context.seed)
    batches = _batches(context, select(images, trained), "pretrain")
    unseen = _batches(context, select(images, held_out), "held out")

    def validate() -> dict[str, float]:
        judges = len(held_out) and _judges(objective)
        loss = {"val_loss": _held_out_loss(objective, unseen, context.compute)} if judges else {}
        return loss if probe is None else {**loss, **probe(objective)}

    validates = probe is not None or (len(held_out) > 0 and _judges(objective))
    trainer = context.trainer("pretrain", context.settings.pretraining)
    phase = trainer.run(objective, batches, validate=validate if validates else None)
    return Pretrained(objective, objective.finished_encoder(), phase, held_out)


def _batches(context: Context, images: Images, phase: str) -> Batches:
    settings = context.settings
    if settings.pretext.num_views > 1:
        augmentation = context.view("contrast", images)
    else:
        augmentation = context.augmentation(images) if settings.pretext.augmented else None
    return Batches(
        images,
        None,
        batch_size=settings.pretraining.batch_size,
        device=context.compute.device,
        augmentation=augmentation,
        seed=derive_seed(context.seed, phase, "batches"),
        num_views=settings.pretext.num_views,
    )


@torch.no_grad()
def _held_out_loss(objective: Pretext, batches: Batches, compute: Compute) -> float:
    """The objective's loss on images that it does not learn from, always the same views."""
    total = 0.0
    with compute.autocast():
        for batch in batches.epoch(0):
            total += float(objective.held_out_loss(batch)) * batch.size
    return total / max(1, batches.num_images)


def _hold_out(num_images: int, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    order = numpy_generator(seed, "pretrain", "held out").permutation(num_images)
    count = min(MAX_HELD_OUT, num_images // 10)
    return np.sort(order[:count]), np.sort(order[count:])


@torch.inference_mode()
def reconstruct(
    objective: Reconstructs,
    images: npt.NDArray[Any],
    compute: Compute,
    *,
    seed: int = 0,
    batch_size: int = 1_000,
) -> npt.NDArray[np.float32]:
    """Images drawn anew in float32, in [0, 1], same shape.

    Args:
        objective: trained.
        images: uint8 or float32 (N, C, H, W).
        compute: where.
        seed: of what is hidden or damaged before.
        batch_size: images at once.
    """
    assert isinstance(objective, Pretext)
    objective.eval().to(compute.device)
    random = generator(seed, "reconstruct", device=compute.device)
    parts = [
        objective.reconstruct(to_float(batch.to(compute.device)), random).float().cpu().numpy()
        for batch in torch.split(as_tensor(images), batch_size)
    ]
    return np.concatenate(parts)
