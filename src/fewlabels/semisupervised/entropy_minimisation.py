"""Entropy minimisation: be sure of something about every image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from pydantic.dataclasses import dataclass

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.objective import (
    SemiSupervised,
    Task,
    View,
    entropy,
    ramp_up,
    unlabelled_part,
)


@dataclass(frozen=True, kw_only=True, config=RULES)
class EntropyMinimisationConfig:
    """Settings of entropy minimisation."""

    views: ClassVar[tuple[View, ...]] = ("usual",)

    name: Literal["entropy_minimisation"] = "entropy_minimisation"
    weight: NonNegativeFloat = 0.5
    # Share of the training in which the weight rises.
    ramp: float = Field(default=0.4, ge=0.0, le=1.0)

    def build(self, task: Task) -> EntropyMinimisation:
        """The objective for a task."""
        return EntropyMinimisation(self, task)


class EntropyMinimisation(SemiSupervised):
    """``mean H(p(y | u)) = -mean sum_k p_k log p_k`` over unlabelled images u.

    Source: Semi-supervised Learning by Entropy Minimization (Grandvalet and Bengio, 2004).
    """

    def __init__(self, config: EntropyMinimisationConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Classification loss and entropy from one pass over all images."""
        view = unlabelled_part(batch).views[0]
        logits = self.classifier(torch.cat([batch.images, view])).float()
        known, unknown = logits.split([len(batch.images), len(view)])
        weight = self.config.weight * ramp_up(self.progress, self.config.ramp)
        return self.result(batch, known, entropy(unknown), weight)
