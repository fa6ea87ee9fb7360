"""Settings of a training phase."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from fewlabels.config import RULES, Values, build, build_named
from fewlabels.training.optimisers import OPTIMISERS, AdamWConfig
from fewlabels.training.schedules import SCHEDULES, CosineConfig


@dataclass(frozen=True, kw_only=True, config=RULES)
class TrainingConfig:
    """Settings of one training phase."""

    epochs: PositiveInt = 100
    # Upper limit on optimiser steps; it shortens the epochs where there are many images, so that
    # one setting serves 50 labels and 50,000.
    max_steps: PositiveInt = 1_000_000
    batch_size: PositiveInt = 64
    # Epochs without a lower validation loss before stopping and going back to the best weights; 0
    # trains for all epochs and keeps the last weights.
    patience: NonNegativeInt = 0
    # Length to which longer gradients are cut (Pascanu et al., 2013); 0 for never.
    gradient_clip: NonNegativeFloat = 0.0
    # Weight of the sum of absolute weights in the loss.
    l1: NonNegativeFloat = 0.0
    # Longest incoming weight vector of a unit (Srivastava et al., 2014); 0 for no limit.
    max_norm: NonNegativeFloat = 0.0
    # Whether activations and gradients are looked at, stage by stage; the report draws them.
    watch: bool = False
    # Seconds between checkpoints; 0 writes one every epoch.
    checkpoint_seconds: NonNegativeFloat = 10.0
    optimiser: Any = Field(default_factory=AdamWConfig)
    schedule: Any = Field(default_factory=CosineConfig)


def length(config: TrainingConfig, num_batches: int) -> int:
    """Epochs of a phase with so many batches each: those asked for, or fewer by `max_steps`."""
    return min(config.epochs, max(1, -(-config.max_steps // num_batches)))


def build_training(values: Values, where: str) -> TrainingConfig:
    """Training settings from plain values, with the named optimiser and schedule inside.

    Raises:
        ConfigError: an unknown key or name, a wrong type or a value out of range.
    """
    ready = dict(values)
    for section, table in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
        if section in ready:
            chosen = ready[section]
            chosen = {"name": chosen} if isinstance(chosen, str) else chosen
            ready[section] = build_named(table, chosen, f"{where}.{section}", section)
    return build(TrainingConfig, ready, where)
