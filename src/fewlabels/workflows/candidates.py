"""What is compared on validation, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fewlabels.evaluation.baselines import BaselineResult
from fewlabels.evaluation.metrics import Evaluation, wilson_interval
from fewlabels.networks.classifier import Classifier
from fewlabels.training.trainer import PhaseResult


@dataclass(frozen=True)
class Candidate:
    """A trained network and how it does on validation.

    Attributes:
        name: of its training phase.
        strategy: transfer strategy; None where it started from scratch.
        classifier: the network.
        phase: the training's course.
        probabilities: float (N, K) on the validation images.
        evaluation: on validation.
    """

    name: str
    strategy: str | None
    classifier: Classifier
    phase: PhaseResult
    probabilities: npt.NDArray[Any]
    evaluation: Evaluation


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Highest validation accuracy; among equals the lowest log loss."""
    return max(candidates, key=lambda c: (c.evaluation.accuracy, -c.evaluation.log_loss))


def comparison_row(entry: Candidate | BaselineResult) -> dict[str, Any]:
    """One row of ``comparison`` in ``result.json``."""
    if isinstance(entry, BaselineResult):
        accuracy, n, seconds = entry.accuracy, entry.n, entry.seconds
        interval = wilson_interval(entry.num_correct, entry.n)
        kind = "baseline"
    else:
        accuracy, n, seconds = (
            entry.evaluation.accuracy,
            entry.evaluation.num_images,
            entry.phase.seconds,
        )
        interval = entry.evaluation.interval
        kind = "transfer" if entry.strategy else "scratch"
    return {
        "name": entry.name,
        "kind": kind,
        "val_accuracy": accuracy,
        "val_interval": list(interval),
        "n": n,
        "seconds": seconds,
    }
