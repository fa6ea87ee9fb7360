"""What is compared on validation, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.evaluation.baselines import BaselineResult
from fewlabels.evaluation.metrics import Evaluation, wilson_interval
from fewlabels.workflows.methods import Method
from fewlabels.workflows.phases import Trained


@dataclass(frozen=True)
class Candidate:
    """A trained network and how it does on validation.

    Attributes:
        method: how it was trained.
        trained: the network and its training's course.
        probabilities: float (N, K) on the validation images.
        evaluation: on validation.
        seconds: of training, over all turns.
    """

    method: Method
    trained: Trained
    probabilities: npt.NDArray[Any]
    evaluation: Evaluation
    seconds: float

    @property
    def name(self) -> str:
        """Of the method."""
        return self.method.name

    def correct(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the judged images it got right, bool (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1) == labels)


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Highest validation accuracy; among equals the lowest log loss."""
    return max(candidates, key=lambda c: (c.evaluation.accuracy, -c.evaluation.log_loss))


Entry = Candidate | BaselineResult


def comparison_row(entry: Candidate | BaselineResult) -> dict[str, Any]:
    """One row of ``comparison`` in ``result.json``."""
    kind: str
    if isinstance(entry, BaselineResult):
        accuracy, n, seconds = entry.accuracy, entry.n, entry.seconds
        interval = wilson_interval(entry.num_correct, entry.n)
        kind = "baseline"
    else:
        accuracy, n, seconds = (
            entry.evaluation.accuracy,
            entry.evaluation.num_images,
            entry.seconds,
        )
        interval = entry.evaluation.interval
        kind = entry.method.kind
    return {
        "name": entry.name,
        "kind": kind,
        "val_accuracy": accuracy,
        "val_interval": list(interval),
        "n": n,
        "seconds": seconds,
    }


def added_up(tables: Sequence[list[dict[str, Any]] | None]) -> list[dict[str, Any]] | None:
    """Pseudo-labels of all turns: what was judged, added up; the rest as in the last turn."""
    known = [table for table in tables if table]
    if not known:
        return None
    return [
        {**rows[-1], **{key: sum(row[key] for row in rows) for key in ("judged", "right")}}
        for rows in zip(*known, strict=True)
    ]
