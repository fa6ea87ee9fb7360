"""Virtual adversarial training: no small change of an image may change its prediction."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.semisupervised.alignment import Alignment, class_prior
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.objective import (
    Task,
    View,
    entropy,
    unlabelled_part,
    untracked,
)


@dataclass(frozen=True, kw_only=True, config=RULES)
class VirtualAdversarialConfig:
    """Settings of virtual adversarial training."""

    views: ClassVar[tuple[View, ...]] = ("usual",)

    name: Literal["virtual_adversarial"] = "virtual_adversarial"
    weight: NonNegativeFloat = 1.0
    # Length of the adversarial change, over all pixels of an image, which are in [0, 1]. The more,
    # the further each label's class spreads, until classes that touch are taken for one: MNIST with
    # 100 labels wants 1; with 2, what is wrong at first stays wrong.
    epsilon: PositiveFloat = 1.0
    # Length of the change by which the direction is found.
    xi: PositiveFloat = 0.1
    iterations: PositiveInt = 1
    # Weight of the entropy of the predictions, as in the paper's best results.
    entropy: NonNegativeFloat = 0.2
    # Weight of the divergence between the mean prediction of a batch and the classes' shares. At 0,
    # with changes as long as these, one class takes over the others.
    balance: NonNegativeFloat = 0.8
    # Those shares; "none" for no such weight.
    alignment: Alignment = "uniform"
    # Of the averaged network that predicts, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> VirtualAdversarial:
        """The objective for a task."""
        return VirtualAdversarial(self, task)


class VirtualAdversarial(AveragedPredictor):
    """``mean KL(p(u) || p(u + r)) + w mean H(p(u)) + b KL(mean p(u) || shares)``.

    r is the change of length epsilon that hurts most. It is found by power iteration: the gradient
    of the divergence at ``xi * d``, from a random d, points along the direction in which the
    prediction bends most.

    Sources: Virtual Adversarial Training (Miyato et al., 2018); balance from Learning Discrete
    Representations via Information Maximizing Self-Augmented Training (Hu et al., 2017).
    """

    prior: Tensor

    def __init__(self, config: VirtualAdversarialConfig, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config
        self.register_buffer("prior", class_prior(config.alignment, task))

    def loss(self, batch: Batch, step: int) -> StepResult:
        """One pass for the predictions, `iterations` for the direction, one for the change."""
        view = unlabelled_part(batch).views[0]
        # Alone, so that batch norms see the same images before and after the change: otherwise
        # predictions differ even where nothing is changed, and the direction is lost in that.
        unknown = self.classifier(view).float()
        with untracked(self.classifier):
            known = self.classifier(batch.images).float()
            change = self._adversarial_change(view, unknown.detach(), batch.generator)
            changed = self.classifier(view + change).float()
        divergence = kullback_leibler(unknown.detach(), changed)
        together = divergence + self.config.entropy * entropy(unknown)
        if self.config.balance and self.config.alignment != "none":
            together = together + self.config.balance * self._imbalance(unknown)
        return self.result(
            batch, known, together, self.config.weight, divergence=divergence.detach()
        )

    def _imbalance(self, logits: Tensor) -> Tensor:
        """``KL(mean prediction || prior)`` of logits (B, K), in nats."""
        # A class without labels has no share, and would make the divergence endless.
        logarithms = self.prior.clamp_min(1e-6).log()
        return F.kl_div(logarithms, logits.softmax(dim=1).mean(dim=0), reduction="sum")

    def _adversarial_change(
        self, images: Tensor, logits: Tensor, generator: torch.Generator
    ) -> Tensor:
        direction = torch.randn(
            images.shape, generator=generator, device=images.device, dtype=images.dtype
        )
        for _ in range(self.config.iterations):
            small = (self.config.xi * unit_length(direction)).requires_grad_()
            changed = self.classifier(images + small).to(logits.dtype)
            divergence = kullback_leibler(logits, changed)
            (direction,) = torch.autograd.grad(divergence, small)
        return self.config.epsilon * unit_length(direction.detach())


def unit_length(changes: Tensor) -> Tensor:
    """Each image's change (B, …) scaled to Euclidean length 1."""
    flat = changes.flatten(1)
    # Tiny gradients would vanish when they are squared.
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(changes.dtype).tiny)
    return F.normalize(flat, dim=1).view_as(changes)


def kullback_leibler(logits: Tensor, other: Tensor) -> Tensor:
    """Mean over images of ``sum_k p_k (log p_k - log q_k)``, p and q from logits (B, K)."""
    return F.kl_div(
        F.log_softmax(other, dim=1),
        F.log_softmax(logits, dim=1),
        reduction="batchmean",
        log_target=True,
    )
