"""MixMatch: guess sharpened labels from several views, then mix everything with everything."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.blocks.losses import mixed_targets
from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.objective import (
    Task,
    View,
    ramp_up,
    unlabelled_part,
    untracked,
)


@dataclass(frozen=True, kw_only=True, config=RULES)
class MixMatchConfig:
    """Settings of MixMatch."""

    views: ClassVar[tuple[View, ...]] = ("usual", "usual")

    name: Literal["mixmatch"] = "mixmatch"
    # Of the squared difference of probabilities, averaged over images and classes.
    weight: NonNegativeFloat = 75.0
    # Share of the training in which the weight rises.
    ramp: float = Field(default=0.5, ge=0.0, le=1.0)
    # Below 1, guesses are sharpened.
    temperature: PositiveFloat = 0.5
    # Of the Beta distribution that mixing shares are drawn from.
    alpha: PositiveFloat = 0.75
    # Of the averaged network that predicts, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> MixMatch:
        """The objective for a task."""
        return MixMatch(self, task)


class MixMatch(AveragedPredictor):
    """``CE on mixed labelled images + w(t) * mean (p - q)² on mixed unlabelled ones``.

    The guess q of an unlabelled image is the mean prediction over its views, sharpened. Every image
    of the step is mixed with another one, ``x = l x1 + (1 - l) x2`` with l at least one half, and
    so are labels and guesses. Labels are learnt by their cross-entropy, as in the paper, whatever
    `classification` says.

    Source: MixMatch: A Holistic Approach to Semi-Supervised Learning (Berthelot et al., 2019).
    """

    def __init__(self, config: MixMatchConfig, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config

    def loss(self, batch: Batch, step: int) -> StepResult:
        """One pass for the guesses, one over all mixed images."""
        assert batch.labels is not None
        views = unlabelled_part(batch).views
        guess = self._guess(views)
        images = torch.cat([batch.images, *views])
        own = F.one_hot(batch.labels, self.num_classes).float()
        if batch.mixing is not None:
            own = mixed_targets(batch.labels, batch.mixing, self.num_classes)
        targets = torch.cat([own, *[guess] * len(views)])
        images, targets = self._mix(images, targets, batch.generator)
        logits = self.classifier(images).float()
        count = len(batch.images)
        known = F.cross_entropy(logits[:count], targets[:count], weight=self.class_weights)
        difference = F.mse_loss(logits[count:].softmax(dim=1), targets[count:])
        weight = self.config.weight * ramp_up(self.progress, self.config.ramp)
        correct = (logits[:count].detach().argmax(1) == targets[:count].argmax(1)).float().mean()
        logs = {
            "train_accuracy": correct,
            "labelled_loss": known.detach(),
            "unlabelled_loss": difference.detach(),
        }
        return StepResult(known + weight * difference, logs)

    @torch.no_grad()
    def _guess(self, views: tuple[Tensor, ...]) -> Tensor:
        with untracked(self.classifier):
            logits = self.classifier(torch.cat(views)).float()
        parts = logits.softmax(dim=1).split(len(views[0]))
        return sharpen(torch.stack(parts).mean(dim=0), self.config.temperature)

    def _mix(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        count, device = len(images), images.device
        partners = torch.randperm(count, generator=generator, device=device)
        share = beta(self.config.alpha, count, generator, device)
        share = torch.maximum(share, 1 - share)
        mixed = torch.lerp(images[partners], images, share.view(-1, 1, 1, 1))
        return mixed, torch.lerp(targets[partners], targets, share.view(-1, 1))


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """``p_k^(1/T) / sum_j p_j^(1/T)``, (B, K)."""
    return F.normalize(probabilities.clamp_min(1e-8) ** (1 / temperature), p=1.0, dim=1)


def beta(alpha: float, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws from Beta(alpha, alpha), float32 (count,), as the share of one of two Gamma draws."""
    shape = torch.full((2, count), alpha, device=device)
    first, second = torch._standard_gamma(shape, generator=generator)
    share: Tensor = first / (first + second).clamp_min(1e-30)
    return share
