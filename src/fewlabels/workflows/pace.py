"""How long a step of training takes, and settings with as many as there is time for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fewlabels.data.selection import Selection
from fewlabels.randomness import numpy_generator
from fewlabels.training.trainer import PhaseResult
from fewlabels.workflows.methods import Method
from fewlabels.workflows.phases import Context
from fewlabels.workflows.pretraining import pretrain
from fewlabels.workflows.settings import Settings

TIMED_STEPS = 8

_FEWEST_EPOCHS = 20
"""Of a training with unlabelled images, where it goes by the clock."""

FEWEST_STEPS = 30
"""Optimiser steps below which a network has learnt nothing worth judging."""


def seconds_a_step(phase: PhaseResult) -> float:
    """Of the median epoch after the first, which warms up."""
    steps = np.diff([0, *(int(row["step"]) for row in phase.history)])
    seconds = [float(row["seconds"]) for row in phase.history]
    return float(np.median([s / n for s, n in zip(seconds[1:], steps[1:], strict=True)]))


def throwaway(context: Context) -> Context:
    """A context for a few steps of each kind of training, of which nothing is kept."""
    settings = context.settings
    few = replace(
        settings,
        pretraining=replace(settings.pretraining, epochs=2),
        training=replace(settings.training, epochs=TIMED_STEPS),
        joint_training=replace(settings.joint_training, epochs=2),
        unlabelled=replace(settings.unlabelled, epoch_steps=TIMED_STEPS, pretrained=False),
    )
    objective = settings.semisupervised
    if hasattr(objective, "graph_start"):  # takes seconds, and no step's time
        objective = replace(objective, graph_start=0.0)
    if hasattr(objective, "threshold"):
        # Nothing is sure before it is learnt, and what does not count is not passed through the
        # network: steps would seem much cheaper than they will be.
        objective = replace(objective, threshold=0.0)
    few = replace(few, semisupervised=objective)
    return replace(context, settings=few, checkpoint=None, on_history=None)


def in_epochs(
    settings: Settings, method: Method, steps: int, *, num_labelled: int, num_images: int
) -> tuple[Settings, int]:
    """How many epochs so many optimiser steps are, and settings with epochs short enough for them.

    Args:
        settings: of the run.
        method: what is trained.
        steps: at least 1.
        num_labelled: images with a label that an epoch of a supervised method goes over.
        num_images: images that an epoch of a semi-supervised one goes over, if there is time.
    """
    if method.kind == "semisupervised":
        whole = math.ceil(num_images / settings.joint_training.batch_size)
        # Short enough that the clock can tell in time how many there will be.
        short = max(1, steps // _FEWEST_EPOCHS)
        epoch = min(settings.unlabelled.epoch_steps, whole, short)
        unlabelled = replace(settings.unlabelled, epoch_steps=epoch)
        return replace(settings, unlabelled=unlabelled), max(1, steps // epoch)
    epoch = math.ceil(num_labelled / settings.training.batch_size)
    return settings, max(1, steps // epoch)


def images_within(context: Context, pool: Selection, seconds: float) -> int:
    """How many images pretraining sees in so many seconds, each as often as it comes."""
    batch_size = context.settings.pretraining.batch_size
    some = pool.narrow(np.arange(min(len(pool), TIMED_STEPS * batch_size)))
    steps = seconds / seconds_a_step(pretrain(throwaway(context), some).phase)
    return int(steps * min(batch_size, len(pool)))


def drawn_images(num_images: int, seen: int, batch_size: int, seed: int) -> npt.NDArray[np.intp]:
    """Positions of the images to pretrain on where only `seen` of them are seen in the time."""
    count = max(seen, FEWEST_STEPS * batch_size)
    positions = np.arange(num_images)
    if count >= num_images:
        return positions
    return np.sort(numpy_generator(seed, "pretrain", "draw").permutation(positions)[:count])


def pretraining_within(
    context: Context, pool: Selection, seconds: float
) -> tuple[Context, Selection]:
    """A context with as many epochs as fit in the time, and the images that they go over."""
    config = context.settings.pretraining
    seen = images_within(context, pool, seconds)
    drawn = drawn_images(len(pool), seen, config.batch_size, context.seed)
    epochs = max(1, seen // len(drawn))
    settings = replace(context.settings, pretraining=replace(config, epochs=epochs))
    return replace(context, settings=settings), pool.narrow(drawn)
