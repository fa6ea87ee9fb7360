"""Classification losses by name; all take logits (B, K) and labels (B,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.blocks.norms import NormName
from fewlabels.config import RULES
from fewlabels.contracts import Mixing
from fewlabels.lookup import find


@dataclass(frozen=True, kw_only=True, config=RULES)
class ClassificationConfig:
    """The classifier's output and the loss on labelled images."""

    loss: Literal["cross_entropy", "multiclass_hinge"] = "cross_entropy"
    # Spreads this share of the target over all classes (Szegedy et al., 2016).
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    # "balanced" weighs each class by N / (K * count), so that rare classes are not ignored.
    class_weights: Literal["none", "balanced"] = "none"
    # Of the logits. "batch" keeps each class as common in every batch as any other.
    logit_norm: NormName = "none"


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Mean of ``-log softmax(logits)[label]``, with class weights and label smoothing."""
    return F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)


def multiclass_hinge(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Mean over images of ``sum_{j != label} max(0, 1 + s_j - s_label) / K``.

    Source: On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines (Weston and
    Watkins' form, 1999). Label smoothing has no meaning here and is ignored.
    """
    return F.multi_margin_loss(logits, labels, weight=weights)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None, float], Tensor]] = {
    "cross_entropy": cross_entropy,
    "multiclass_hinge": multiclass_hinge,
}


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Class weights ``N / (K * count)``, float32 (K,); a class without labels gets 0."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    weights = labels.numel() / (num_classes * counts.clamp_min(1))
    return torch.where(counts > 0, weights, torch.zeros_like(weights))


def mixed_targets(labels: Tensor, mixing: Mixing, num_classes: int) -> Tensor:
    """Share of each class in mixed images, float32 (B, K), from the labels (B,) before mixing."""
    own = F.one_hot(labels, num_classes).float()
    return torch.lerp(own[mixing.partners], own, mixing.share.view(-1, 1))


def classification_loss(
    config: ClassificationConfig, logits: Tensor, targets: Tensor, weights: Tensor | None
) -> Tensor:
    """The configured loss in float32, whatever the precision of the logits.

    Args:
        config: which loss.
        logits: (B, K).
        targets: int64 (B,), or shares (B, K) for the cross-entropy of mixed images.
        weights: of the classes, (K,), or None.
    """
    loss = find(LOSSES, config.loss, "loss")
    return loss(logits.float(), targets, weights, config.label_smoothing)
