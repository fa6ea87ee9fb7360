"""Pseudo-label: the network's own best guess is the label."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.objective import SemiSupervised, Task, View, unlabelled_part
from fewlabels.semisupervised.pool import probabilities


@dataclass(frozen=True, kw_only=True, config=RULES)
class PseudoLabelConfig:
    """Settings of pseudo-labelling."""

    views: ClassVar[tuple[View, ...]] = ("usual",)

    name: Literal["pseudo_label"] = "pseudo_label"
    weight: NonNegativeFloat = 1.0
    # Shares of the training between which the weight rises from 0 in a line.
    start: float = Field(default=0.1, ge=0.0, lt=1.0)
    end: float = Field(default=0.5, gt=0.0, le=1.0)
    # 0 guesses anew in every step. More than 0: all images are labelled so many times in the course
    # of the training, the surest share of each class first and all of them in the last round.
    rounds: NonNegativeInt = 0

    def build(self, task: Task) -> PseudoLabel:
        """The objective for a task."""
        return PseudoLabel(self, task)


class PseudoLabel(SemiSupervised):
    """``a(t) * mean CE(f(u), argmax f(u))`` over unlabelled images u.

    Sources: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method (Lee, 2013);
    with rounds, Curriculum Labeling (Cascante-Bonilla et al., 2021), without its restarts.
    """

    targets: Tensor

    def __init__(self, config: PseudoLabelConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.unlabelled = task.unlabelled
        count = len(task.unlabelled) if config.rounds else 0
        self.register_buffer("targets", torch.full((count,), -1))

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """In the first epoch of a round, label the surest images of each class."""
        super().before_epoch(epoch, num_epochs)
        parts = self.config.rounds + 1  # the first part of the training has no guesses
        number = epoch * parts // num_epochs
        if number and number > (epoch - 1) * parts // num_epochs:
            found = probabilities(self.classifier, self.unlabelled)
            self.targets.copy_(surest(found, number / self.config.rounds))

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Both cross-entropies from one pass over all images."""
        unlabelled = unlabelled_part(batch)
        logits = self.classifier(torch.cat([batch.images, unlabelled.views[0]])).float()
        known, unknown = logits.split([len(batch.images), len(unlabelled.clean)])
        if not self.config.rounds:
            guesses = unknown.detach().argmax(dim=1)
            return self.result(batch, known, F.cross_entropy(unknown, guesses), self._weight())
        guesses = self.targets[unlabelled.positions]
        counted = F.cross_entropy(unknown, guesses, ignore_index=-1, reduction="sum")
        used = (guesses >= 0).float().mean()
        return self.result(
            batch, known, counted / len(guesses), self.config.weight, used_share=used
        )

    def _weight(self) -> float:
        passed = (self.progress - self.config.start) / max(
            self.config.end - self.config.start, 1e-9
        )
        return self.config.weight * min(1.0, max(0.0, passed))


def surest(probabilities: Tensor, share: float) -> Tensor:
    """The most probable class of the surest `share` of the images of each class, else -1.

    Args:
        probabilities: float (N, K).
        share: in [0, 1]; applies within the images that are guessed to be of one class.

    Returns:
        int64 (N,).
    """
    confidence, guesses = probabilities.max(dim=1)
    kept = torch.full_like(guesses, -1)
    for label in range(probabilities.shape[1]):
        members = (guesses == label).nonzero().squeeze(1)
        count = min(len(members), max(1, round(share * len(members))))
        kept[members[confidence[members].topk(count).indices]] = label
    return kept
