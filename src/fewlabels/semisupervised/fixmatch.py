"""FixMatch: what is sure of the lightly changed image holds for the heavily changed one."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.randomness import numpy_generator
from fewlabels.semisupervised.alignment import Alignment, class_prior
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.graph import (
    affinity,
    balanced,
    neighbours,
    principal_components,
    propagate,
)
from fewlabels.semisupervised.objective import (
    Task,
    View,
    unlabelled_part,
    untracked,
)
from fewlabels.semisupervised.pool import nodes

_STATISTICS_DECAY = 0.99
_NEIGHBOURS, _GRAPH_ALPHA = 10, 0.999
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True, config=RULES)
class FixMatchConfig:
    """Settings of FixMatch; with adaptive thresholds and fairness it is FreeMatch."""

    views: ClassVar[tuple[View, ...]] = ("weak", "strong")

    name: Literal["fixmatch"] = "fixmatch"
    weight: NonNegativeFloat = 1.0
    # "fixed", or "adaptive": following the mean confidence (FreeMatch); one for each class where
    # alignment is "none", else one for all, as aligned guesses already favour no class.
    thresholds: Literal["fixed", "adaptive"] = "fixed"
    # The fixed threshold.
    threshold: float = Field(default=0.95, ge=0.0, le=1.0)
    # Which shares of the classes guesses are aligned to.
    alignment: Alignment = "uniform"
    # Weight of FreeMatch's term against guesses that favour a few classes.
    fairness: NonNegativeFloat = 0.0
    # Whose guesses count: the averaged "teacher", or the "student" itself, as in the paper.
    labeller: Literal["teacher", "student"] = "teacher"
    # Share of the training in which guesses come from labels that are propagated over a graph of
    # the encoder's features instead; worth it where the encoder is pretrained and labels are few.
    graph_start: float = Field(default=0.0, ge=0.0, lt=1.0)
    # Images in that graph; the others wait.
    graph_nodes: PositiveInt = 20_000
    # Of the teacher's average, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> FixMatch:
        """The objective for a task."""
        return FixMatch(self, task)


class FixMatch(AveragedPredictor):
    """``mean [max q >= threshold] CE(p(strong view), argmax q)``, q the guess from the weak view.

    Sources: FixMatch (Sohn et al., 2020); distribution alignment from ReMixMatch (Berthelot et al.,
    2020); adaptive thresholds and fairness from FreeMatch (Wang et al., 2023).
    """

    prior: Tensor
    mean_guess: Tensor
    mean_confidence: Tensor
    mean_histogram: Tensor
    targets: Tensor

    def __init__(self, config: FixMatchConfig, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config
        uniform = torch.full((self.num_classes,), 1 / self.num_classes)
        self.register_buffer("prior", class_prior(config.alignment, task))
        self.register_buffer("mean_guess", uniform.clone())
        self.register_buffer("mean_confidence", torch.tensor(1 / self.num_classes))
        self.register_buffer("mean_histogram", uniform.clone())
        self.task = task
        count = len(task.unlabelled) if config.graph_start else 0
        self.register_buffer("targets", torch.full((count,), -1))

    def loss(self, batch: Batch, step: int) -> StepResult:
        """One pass over labelled images and strong views, one without gradient for the guesses."""
        weak, strong = unlabelled_part(batch).views
        labels, used = self.guesses(self._probabilities(weak))
        if self.progress < self.config.graph_start:
            targets = self.targets[unlabelled_part(batch).positions]
            labels, used = targets.clamp_min(0), targets >= 0
        share = used.float().mean()
        if not self.config.fairness:  # What does not count need not be learnt from.
            strong, labels, used = strong[used], labels[used], used[used]
        logits = self.classifier(torch.cat([batch.images, strong])).float()
        known, unknown = logits.split([len(batch.images), len(strong)])
        losses = F.cross_entropy(unknown, labels, reduction="none")
        unlabelled_loss = (losses * used).sum() / len(weak)
        if self.config.fairness:
            unlabelled_loss = unlabelled_loss + self.config.fairness * self._unfairness(
                unknown, used
            )
        return self.result(batch, known, unlabelled_loss, self.config.weight, used_share=share)

    @torch.no_grad()
    def _probabilities(self, images: Tensor) -> Tensor:
        """The labeller's, (B, K); the running statistics take note of them."""
        if self.config.labeller == "teacher":
            logits = self.teacher(images)
        else:
            with untracked(self.classifier):
                logits = self.classifier(images)
        found: Tensor = logits.float().softmax(dim=1)
        self.mean_guess.lerp_(found.mean(dim=0), 1 - _STATISTICS_DECAY)
        confidence, labels = self.aligned(found).max(dim=1)
        counts = F.one_hot(labels, self.num_classes).float()
        self.mean_histogram.lerp_(counts.mean(dim=0), 1 - _STATISTICS_DECAY)
        self.mean_confidence.lerp_(confidence.mean(), 1 - _STATISTICS_DECAY)
        return found

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Propagate the labels before the first one."""
        super().before_epoch(epoch, num_epochs)
        if epoch == 0 and self.config.graph_start:
            self._propagate()

    @torch.no_grad()
    def _propagate(self) -> None:
        labels = torch.from_numpy(self.task.labels)
        rng = numpy_generator(self.task.seed, "graph")
        features, drawn = nodes(self.classifier.encoder, self.task, self.config.graph_nodes, rng)
        close = neighbours(principal_components(features), min(_NEIGHBOURS, len(features) - 1))
        shares = propagate(affinity(*close), labels, self.num_classes, _GRAPH_ALPHA)
        # No label reaches these: whatever they were taken for would be made up.
        unreached = shares.amax(dim=1) - shares.amin(dim=1) < _SAME
        if self.config.alignment != "none":
            shares = balanced(shares, self.prior.cpu())
        guesses = shares.argmax(dim=1).masked_fill(unreached, -1)[len(labels) :]
        self.targets[torch.from_numpy(drawn).to(self.targets.device)] = guesses.to(self.targets)

    def aligned(self, guess: Tensor) -> Tensor:
        """``q_k * prior_k / running mean of q_k``, scaled to sum 1; (B, K)."""
        if self.config.alignment == "none":
            return guess
        return F.normalize(guess * self.prior / self.mean_guess.clamp_min(1e-6), p=1.0, dim=1)

    def thresholds(self) -> Tensor:
        """The confidence from which on a guess counts, by class, float32 (K,)."""
        if self.config.thresholds == "fixed":
            return torch.full_like(self.mean_guess, self.config.threshold)
        # Aligned guesses already favour no class, so their thresholds need not either.
        if self.config.alignment != "none":
            return self.mean_confidence.expand(self.num_classes).clone()
        return self.mean_confidence * self.mean_guess / self.mean_guess.max()

    def guesses(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """The aligned guess, which counts where it is at least as sure as its class's threshold."""
        confidence, labels = self.aligned(probabilities).max(dim=1)
        return labels, confidence >= self.thresholds()[labels]

    def _unfairness(self, logits: Tensor, used: Tensor) -> Tensor:
        """FreeMatch's equation 12, from logits (B, K) and which images are used (B,)."""
        weights = (used.float() / used.sum().clamp_min(1)).unsqueeze(1)
        mean = (logits.softmax(dim=1) * weights).sum(dim=0)
        histogram = (F.one_hot(logits.argmax(dim=1), self.num_classes) * weights).sum(dim=0)
        ours = F.normalize(mean / histogram.clamp_min(1e-3), p=1.0, dim=0)
        target = F.normalize(self.mean_guess / self.mean_histogram.clamp_min(1e-3), p=1.0, dim=0)
        return (target * ours.clamp_min(1e-8).log()).sum() * used.any()
