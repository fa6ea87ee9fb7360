"""Mean teacher: agree with the average of what the network has been."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.objective import (
    Task,
    View,
    ramp_up,
    unlabelled_part,
)


@dataclass(frozen=True, kw_only=True, config=RULES)
class MeanTeacherConfig:
    """Settings of the mean teacher."""

    views: ClassVar[tuple[View, ...]] = ("usual", "usual")

    name: Literal["mean_teacher"] = "mean_teacher"
    # Of the squared difference of two probabilities, averaged over images and classes.
    weight: NonNegativeFloat = 100.0
    # Share of the training in which the weight rises.
    ramp: float = Field(default=0.4, ge=0.0, le=1.0)
    # Of the teacher's average, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> MeanTeacher:
        """The objective for a task."""
        return MeanTeacher(self, task)


class MeanTeacher(AveragedPredictor):
    """``w(t) * mean (p_student(u') - p_teacher(u''))²`` over two views of each unlabelled image.

    Source: Mean teachers are better role models (Tarvainen and Valpola, 2017).
    """

    def __init__(self, config: MeanTeacherConfig, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The student sees labelled images and the first view, the teacher the second."""
        first, second = unlabelled_part(batch).views
        with torch.no_grad():
            target = self.teacher(second).float().softmax(dim=1)
        logits = self.classifier(torch.cat([batch.images, first])).float()
        known, unknown = logits.split([len(batch.images), len(first)])
        difference = F.mse_loss(unknown.softmax(dim=1), target)
        weight = self.config.weight * ramp_up(self.progress, self.config.ramp)
        return self.result(batch, known, difference, weight)
