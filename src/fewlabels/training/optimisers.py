"""Optimisers by name.

Two penalties on large weights that are often confused:

- ``l2`` adds ``l2 / 2 * ||w||²`` to the loss. Under Adam its gradient is divided by the running
  deviation like any other, so weights with large gradients are hardly shrunk.
- ``weight_decay`` (AdamW) shrinks every weight by ``learning_rate * weight_decay`` of itself, apart
  from the gradient (Decoupled Weight Decay Regularization, Loshchilov and Hutter, 2019).

For plain gradient descent both are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import nn

from fewlabels.config import RULES
from fewlabels.contracts import ParameterGroup

Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, config=RULES)
class SGDConfig:
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.1
    l2: NonNegativeFloat = 0.0

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """``w -= learning_rate * gradient``."""
        return torch.optim.SGD(groups, lr=self.learning_rate, weight_decay=self.l2)


@dataclass(frozen=True, kw_only=True, config=RULES)
class MomentumConfig:
    """Gradient descent with momentum."""

    name: Literal["momentum"] = "momentum"
    learning_rate: PositiveFloat = 0.05
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    l2: NonNegativeFloat = 0.0

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """``v = momentum * v + gradient; w -= learning_rate * v``."""
        return torch.optim.SGD(
            groups, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.l2
        )


@dataclass(frozen=True, kw_only=True, config=RULES)
class NesterovConfig:
    """Gradient descent with Nesterov's momentum: the gradient is taken one step ahead."""

    name: Literal["nesterov"] = "nesterov"
    learning_rate: PositiveFloat = 0.05
    momentum: float = Field(default=0.9, gt=0.0, lt=1.0)
    l2: NonNegativeFloat = 0.0

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """``v = momentum * v + gradient; w -= learning_rate * (gradient + momentum * v)``."""
        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=True,
            weight_decay=self.l2,
        )


@dataclass(frozen=True, kw_only=True, config=RULES)
class RMSPropConfig:
    """Steps divided by the running root mean square of the gradient (Hinton, 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: PositiveFloat = 0.001
    smoothing: float = Field(default=0.99, gt=0.0, lt=1.0)
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    l2: NonNegativeFloat = 0.0

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """``s = smoothing * s + (1 - smoothing) * g²; w -= learning_rate * g / sqrt(s)``."""
        return torch.optim.RMSprop(
            groups,
            lr=self.learning_rate,
            alpha=self.smoothing,
            momentum=self.momentum,
            weight_decay=self.l2,
        )


@dataclass(frozen=True, kw_only=True, config=RULES)
class AdamConfig:
    """Adam (Kingma and Ba, 2015), its penalty ``l2`` inside the loss."""

    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 0.001
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0)
    l2: NonNegativeFloat = 0.0

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """Momentum and running mean square, both corrected for their start at zero."""
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(
            groups, lr=self.learning_rate, betas=betas, weight_decay=self.l2, fused=True
        )


@dataclass(frozen=True, kw_only=True, config=RULES)
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat = 0.001
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0)
    weight_decay: NonNegativeFloat = 0.01

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """Adam's step, and ``w -= learning_rate * weight_decay * w`` beside it."""
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=betas,
            weight_decay=self.weight_decay,
            fused=True,
        )


OPTIMISERS: Mapping[str, type[Any]] = {
    "sgd": SGDConfig,
    "momentum": MomentumConfig,
    "nesterov": NesterovConfig,
    "rmsprop": RMSPropConfig,
    "adam": AdamConfig,
    "adamw": AdamWConfig,
}
"""From optimiser name to its settings class; ``settings.build(groups)`` builds it."""


def build_optimisers(
    config: Any, groups: Mapping[str, Iterable[ParameterGroup]]
) -> dict[str, torch.optim.Optimizer]:
    """One optimiser for each named set of groups; each group remembers its learning-rate scale."""
    return {
        name: config.build(
            [
                {"params": list(group.parameters), "scale": group.learning_rate_scale}
                for group in named
            ]
        )
        for name, named in groups.items()
    }


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give each group the scheduled rate times its own scale."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group["scale"]


def l1_penalty(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """Sum of absolute weights over matrices and kernels; biases and norms are left alone."""
    terms = [
        weight.float().abs().sum()
        for weight in parameters
        if weight.ndim > 1 and weight.requires_grad
    ]
    return torch.stack(terms).sum() if terms else torch.zeros(())


@torch.no_grad()
def limit_norms(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale the incoming weights of each unit back to length `max_norm` where they exceed it.

    Source: Dropout: A Simple Way to Prevent Neural Networks from Overfitting (Srivastava et al.,
    2014), section 5.1.
    """
    for weight in parameters:
        if weight.ndim > 1 and weight.requires_grad:
            weight.copy_(torch.renorm(weight, p=2, dim=0, maxnorm=max_norm))
