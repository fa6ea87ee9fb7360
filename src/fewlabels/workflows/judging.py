"""How candidates are judged: on validation images, or by turns on all labels where they are few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold

from fewlabels.evaluation.metrics import Evaluation, evaluate
from fewlabels.randomness import derive_seed
from fewlabels.workflows.phases import LabelledImages

ENOUGH_PER_CLASS = 20
"""Labels of each class from which on one validation part decides; below, cross-validation does."""

MOST_FOLDS = 3
"""Each fold costs a training of every candidate."""

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Judging:
    """Labelled images, and which of them are learnt from and which judged by in each turn.

    Attributes:
        labelled: all labelled images but those of the test set.
        turns: positions to learn from and to judge by; no turns where nothing can be held out.
        how: "validation", "cross-validation" or "nothing".
    """

    labelled: LabelledImages
    turns: tuple[tuple[Positions, Positions], ...]
    how: str

    @property
    def judged(self) -> Positions:
        """Positions of all images that are judged by, turn after turn."""
        parts = [judged for _, judged in self.turns]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.intp)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels of the judged images."""
        return self.labelled.labels[self.judged]

    @property
    def images(self) -> npt.NDArray[Any]:
        """The judged images."""
        return np.asarray(self.labelled.images[self.judged])

    def part(self, positions: Positions) -> LabelledImages:
        """Some of the labelled images."""
        return LabelledImages(self.labelled.images[positions], self.labelled.labels[positions])

    def parts(self) -> list[tuple[LabelledImages, LabelledImages]]:
        """What is learnt from and judged by, turn after turn."""
        return [(self.part(learnt), self.part(judged)) for learnt, judged in self.turns]

    def evaluate(
        self,
        predict: Callable[[int, LabelledImages, LabelledImages], npt.NDArray[Any]],
        class_names: Sequence[str],
    ) -> tuple[npt.NDArray[Any], Evaluation]:
        """Let a candidate learn and predict in each turn.

        Args:
            predict: from the turn's number, what to learn from and what to judge by, to
                probabilities (M, K) of the latter.
            class_names: K names.

        Returns:
            Probabilities of all judged images in the order of `judged`, and their evaluation.
        """
        found = np.concatenate(
            [
                predict(number, learnt, judged)
                for number, (learnt, judged) in enumerate(self.parts())
            ]
        )
        return found, evaluate(found, self.labels, class_names)


def judge_by(training: LabelledImages, validation: LabelledImages, seed: int) -> Judging:
    """Hold out the validation part where it is large enough, else take turns.

    Args:
        training: the split's training part.
        validation: its validation part, may be empty.
        seed: of the folds.
    """
    labelled = training + validation
    first = np.arange(len(training.labels))
    rest = np.arange(len(training.labels), len(labelled.labels))
    sizes = np.bincount(labelled.labels)
    fewest = int(sizes[sizes > 0].min())
    validation_sizes = np.bincount(validation.labels, minlength=len(sizes))
    covered = bool((validation_sizes[sizes > 0] > 0).all())
    if fewest >= ENOUGH_PER_CLASS and covered:
        return Judging(labelled, ((first, rest),), "validation")
    # The only label of a class is always learnt from; the others can take turns.
    takes_turns = sizes[labelled.labels] > 1
    judged_classes = int((sizes > 1).sum())
    if judged_classes < 2 or 2 * judged_classes < int((sizes > 0).sum()):
        return Judging(labelled, (), "nothing")
    return Judging(labelled, _turns(labelled.labels, takes_turns, seed), "cross-validation")


def _turns(
    labels: npt.NDArray[np.int64], takes_turns: npt.NDArray[np.bool_], seed: int
) -> tuple[tuple[Positions, Positions], ...]:
    """Positions to learn from and to judge by; those that take no turns are always learnt from."""
    able, always = np.flatnonzero(takes_turns), np.flatnonzero(~takes_turns)
    sizes = np.bincount(labels[able])
    folds = min(MOST_FOLDS, int(sizes[sizes > 0].min()))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    return tuple(
        (np.sort(np.concatenate([able[learnt], always])), able[judged])
        for learnt, judged in splitter.split(np.zeros(len(able)), labels[able])
    )
