"""Learning-rate schedules by name: pure functions from time to a factor on the learning rate.

Time is counted in epochs and may be fractional: 2.5 is the middle of the third epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from fewlabels.config import RULES


@dataclass(frozen=True, kw_only=True, config=RULES)
class ConstantConfig:
    """The learning rate never changes."""

    name: Literal["constant"] = "constant"

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True, config=RULES)
class StepConfig:
    """Multiply by `gamma` every `every` epochs."""

    name: Literal["step"] = "step"
    every: PositiveInt = 30
    gamma: float = Field(default=0.1, gt=0.0, lt=1.0)

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``gamma ** floor(epoch / every)``."""
        return float(self.gamma ** (int(epoch) // self.every))


@dataclass(frozen=True, kw_only=True, config=RULES)
class MultiStepConfig:
    """Multiply by `gamma` at each of the `milestones`."""

    name: Literal["multi_step"] = "multi_step"
    milestones: tuple[PositiveInt, ...] = (30, 60)
    gamma: float = Field(default=0.1, gt=0.0, lt=1.0)

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``gamma ** number of milestones passed``."""
        return float(self.gamma ** sum(epoch >= milestone for milestone in self.milestones))


@dataclass(frozen=True, kw_only=True, config=RULES)
class ExponentialConfig:
    """Multiply by `gamma` once an epoch."""

    name: Literal["exponential"] = "exponential"
    gamma: float = Field(default=0.95, gt=0.0, lt=1.0)

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``gamma ** floor(epoch)``."""
        return float(self.gamma ** int(epoch))


@dataclass(frozen=True, kw_only=True, config=RULES)
class FractionalConfig:
    """Fall like one over time."""

    name: Literal["fractional"] = "fractional"
    k: NonNegativeFloat = 0.1

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``1 / (1 + k * epoch)`` with whole epochs."""
        return 1.0 / (1.0 + self.k * int(epoch))


@dataclass(frozen=True, kw_only=True, config=RULES)
class CosineConfig:
    """Rise in a line for `warmup` of the time, then fall along half a cosine (SGDR, 2017)."""

    name: Literal["cosine"] = "cosine"
    # Share of all epochs, so that a shorter run warms up for a shorter time.
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    # Where the fall ends, as a factor.
    final: float = Field(default=0.0, ge=0.0, le=1.0)

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``final + (1 - final) * (1 + cos(pi * progress)) / 2`` after the warm-up."""
        rise = self.warmup * num_epochs
        if epoch < rise:
            return epoch / rise
        progress = min(1.0, (epoch - rise) / max(num_epochs - rise, 1e-9))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True, config=RULES)
class ReduceOnPlateauConfig:
    """Multiply by `gamma` whenever the loss has not improved for more than `patience` epochs."""

    name: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    gamma: float = Field(default=0.5, gt=0.0, lt=1.0)
    patience: PositiveInt = 10
    # Smaller improvements than this share of the best loss count as none.
    threshold: float = Field(default=1e-4, ge=0.0, lt=1.0)

    def factor(self, epoch: float, num_epochs: int, losses: Sequence[float]) -> float:
        """``gamma ** number of plateaus`` in the losses of the epochs so far."""
        best, waited, plateaus = math.inf, 0, 0
        for loss in losses:
            if loss < best * (1 - self.threshold):
                best, waited = loss, 0
            else:
                waited += 1
            if waited > self.patience:
                plateaus, waited = plateaus + 1, 0
        return float(self.gamma**plateaus)


SCHEDULES: Mapping[str, type[Any]] = {
    "constant": ConstantConfig,
    "step": StepConfig,
    "multi_step": MultiStepConfig,
    "exponential": ExponentialConfig,
    "fractional": FractionalConfig,
    "cosine": CosineConfig,
    "reduce_on_plateau": ReduceOnPlateauConfig,
}
"""From schedule name to its settings class, which has
``factor(epoch, num_epochs, losses) -> float``; `losses` are those of finished epochs, validation
where measured, else training."""
