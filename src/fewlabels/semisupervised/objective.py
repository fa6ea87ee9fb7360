"""What semi-supervised objectives share: a classifier, its loss on labels, and a ramp."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from fewlabels.blocks.losses import ClassificationConfig, classification_loss, mixed_targets
from fewlabels.contracts import Batch, Objective, StepResult, Unlabelled
from fewlabels.data.selection import Images
from fewlabels.networks.classifier import Classifier

View = Literal["usual", "weak", "strong"]
"""How an unlabelled image is changed: as labelled ones are, less, or more."""


@dataclass(frozen=True)
class Task:
    """What a semi-supervised objective is built for.

    Attributes:
        classifier: to be trained; pretrained or not.
        classification: the loss on labelled images.
        class_weights: float32 (K,) for that loss, or None.
        images: the labelled images, uint8 or float32 (N, C, H, W).
        labels: int64 (N,).
        unlabelled: the unlabelled images in the order that `Unlabelled.positions` counts in.
        seed: of everything that the objective draws outside of its steps.
    """

    classifier: Classifier
    classification: ClassificationConfig
    class_weights: Tensor | None
    images: Images
    labels: npt.NDArray[np.int64]
    unlabelled: Images
    seed: int

    @property
    def num_classes(self) -> int:
        """K."""
        return self.classifier.head.out_features


class SemiSupervised(Objective):
    """``loss = classification loss on labels + weight * loss without labels``.

    Subclasses say what the second part is.

    Attributes:
        classifier: the network in training.
        progress: share of the training that is over, in whole epochs.
    """

    class_weights: Tensor | None

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.classifier = task.classifier
        self.classification = task.classification
        self.register_buffer("class_weights", task.class_weights, persistent=False)
        self.num_classes = task.num_classes
        self.progress = 0.0

    @property
    def predictor(self) -> Classifier:
        """What predicts and is saved in the end: the averaged teacher where there is one."""
        return self.classifier

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss of one step; the logs hold "labelled_loss" and "unlabelled_loss"."""

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Keep track of the progress that ramps go by."""
        self.progress = epoch / num_epochs

    def guesses(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken for the label of images, and whether that counts.

        Args:
            probabilities: of the predictor, float (B, K).

        Returns:
            Classes, int64 (B,), and bool (B,).
        """
        labels = probabilities.argmax(dim=1)
        return labels, torch.ones_like(labels, dtype=torch.bool)

    def taken(self, positions: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """As `guesses`, of unlabelled images that the training has met.

        Args:
            positions: int64 (B,), places among the unlabelled images.
            probabilities: of the predictor for them, float (B, K).
        """
        return self.guesses(probabilities)

    def labelled_loss(self, batch: Batch, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The classification loss, and what to log of it.

        Args:
            batch: with labels (B,).
            logits: (B, K).
        """
        assert batch.labels is not None
        targets = batch.labels
        correct = (logits.detach().argmax(1) == targets).float().mean()
        if batch.mixing is not None:
            targets = mixed_targets(batch.labels, batch.mixing, self.num_classes)
        loss = classification_loss(self.classification, logits, targets, self.class_weights)
        return loss, {"train_accuracy": correct, "labelled_loss": loss.detach()}

    def result(
        self, batch: Batch, logits: Tensor, unlabelled_loss: Tensor, weight: float, **logs: Tensor
    ) -> StepResult:
        """The sum of both parts.

        Args:
            batch: with labels.
            logits: of its labelled images, (B, K).
            unlabelled_loss: scalar.
            weight: its factor.
            logs: further scalars for the history.
        """
        labelled_loss, facts = self.labelled_loss(batch, logits)
        facts |= {"unlabelled_loss": unlabelled_loss.detach(), **logs}
        return StepResult(labelled_loss + weight * unlabelled_loss, facts)


def unlabelled_part(batch: Batch) -> Unlabelled:
    """The unlabelled half of a batch, which semi-supervised training always has."""
    if batch.unlabelled is None:
        raise AssertionError("semi-supervised training needs unlabelled images")
    return batch.unlabelled


def ramp_up(progress: float, length: float) -> float:
    """``exp(-5 (1 - t)²)`` with ``t = progress / length``, and 1 from there on.

    Source: Temporal Ensembling for Semi-Supervised Learning (Laine and Aila, 2017).
    """
    if progress >= length:
        return 1.0
    return math.exp(-5.0 * (1.0 - progress / length) ** 2)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions, in nats, from logits (B, K)."""
    logarithms = F.log_softmax(logits.float(), dim=1)
    return -(logarithms.exp() * logarithms).sum(dim=1).mean()


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Within the block, batch norms use the batch's statistics without taking note of them."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
