"""Π-model: two passes over differently changed copies of an image must agree."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.objective import (
    SemiSupervised,
    Task,
    View,
    ramp_up,
    unlabelled_part,
)


@dataclass(frozen=True, kw_only=True, config=RULES)
class PiModelConfig:
    """Settings of the Π-model."""

    views: ClassVar[tuple[View, ...]] = ("usual", "usual")

    name: Literal["pi_model"] = "pi_model"
    # Of the squared difference of two probabilities, averaged over images and classes.
    weight: NonNegativeFloat = 100.0
    # Share of the training in which the weight rises.
    ramp: float = Field(default=0.4, ge=0.0, le=1.0)

    def build(self, task: Task) -> PiModel:
        """The objective for a task."""
        return PiModel(self, task)


class PiModel(SemiSupervised):
    """``w(t) * mean (p(u') - p(u''))²`` over two views u', u'' of each unlabelled image.

    Source: Temporal Ensembling for Semi-Supervised Learning (Laine and Aila, 2017).
    """

    def __init__(self, config: PiModelConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config

    def loss(self, batch: Batch, step: int) -> StepResult:
        """All images in one pass; the gradient flows through both views."""
        first, second = unlabelled_part(batch).views
        logits = self.classifier(torch.cat([batch.images, first, second])).float()
        known, one, other = logits.split([len(batch.images), len(first), len(second)])
        difference = F.mse_loss(one.softmax(dim=1), other.softmax(dim=1))
        weight = self.config.weight * ramp_up(self.progress, self.config.ramp)
        return self.result(batch, known, difference, weight)
