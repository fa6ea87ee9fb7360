"""What the parts promise each other: batches, encoders, objectives.

Legend for shapes: B batch, C channels, H height, W width, D features, K classes, N images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How the images of a batch were mixed with each other.

    Attributes:
        partners: int64 (B,), position of the other image.
        share: float32 (B,), weight of the image's own label; the partner's has the rest.
    """

    partners: Tensor
    share: Tensor


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """The half of a semi-supervised step that comes without labels.

    Attributes:
        clean: float32 (U, C, H, W) in [0, 1], as they are stored.
        views: the same images, augmented independently: one tensor for each view that the
            objective asks for, in that order.
        positions: int64 (U,), places among the unlabelled images, on the device.
    """

    clean: Tensor
    views: tuple[Tensor, ...]
    positions: Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What an objective sees in one step, on the device.

    Attributes:
        images: float32 (B, C, H, W) in [0, 1], augmented where a policy is set.
        clean: the same images before augmentation; the same tensor where there is none.
        labels: int64 (B,), -1 for none; None in a batch without labels.
        generator: the step's source of randomness (masks, noise), on the device of `images`.
        mixing: set where `images` are mixtures (mixup, CutMix); only in batches with labels.
        further_views: the same images, augmented anew, where the objective asks for several views.
        unlabelled: further images, without labels, in semi-supervised training.
    """

    images: Tensor
    clean: Tensor
    labels: Tensor | None
    generator: torch.Generator
    mixing: Mixing | None = None
    further_views: tuple[Tensor, ...] = ()
    unlabelled: Unlabelled | None = None

    @property
    def size(self) -> int:
        """Images that count: the unlabelled ones where there are some."""
        return len(self.images if self.unlabelled is None else self.unlabelled.clean)


@dataclass(frozen=True)
class StepResult:
    """The outcome of one training step.

    Attributes:
        loss: float32 scalar to minimise.
        logs: named float32 scalars for the history, detached.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        name: for messages and checkpoints.
        parameters: what the optimiser updates.
        learning_rate_scale: factor on the scheduled learning rate; 0 keeps the group frozen.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate_scale: float = 1.0


class Encoder(nn.Module, ABC):
    """Images (B, C, H, W) in [0, 1] to features (B, D).

    Attributes:
        image_shape: (C, H, W) that the encoder was built for.
        num_features: D.
    """

    image_shape: ImageShape
    num_features: int

    @abstractmethod
    def forward_features(self, images: Tensor) -> Tensor:
        """Features before pooling: maps, tokens, or for an MLP the features themselves."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features, float (B, D)."""

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """Groups of modules from input to output; together they hold every parameter once."""


class Objective(nn.Module, ABC):
    """A loss with the modules it trains; knows no trainer, logger or device."""

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss of one batch.

        Args:
            batch: see `Batch`.
            step: optimiser steps done before, from 0.
        """

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """Parameter groups by optimiser; one optimiser named "main" unless overridden."""
        return {"main": [ParameterGroup(name="all", parameters=list(self.parameters()))]}

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Called at the start of each epoch, from 0; also the first one after a resume.

        Weights are in float32 then; in the steps, matrices may be in bfloat16.
        """

    def after_step(self, step: int) -> None:
        """Called after each update, for averaged teachers and the like."""
