"""Objectives whose average over training predicts."""

from __future__ import annotations

from fewlabels.blocks.averaged import Averaged
from fewlabels.networks.classifier import Classifier
from fewlabels.semisupervised.objective import SemiSupervised, Task


class AveragedPredictor(SemiSupervised):
    """An objective whose classifier, averaged over the steps, predicts in the end.

    Attributes:
        teacher: the average, which may also guess in training.
    """

    def __init__(self, task: Task, decay: float) -> None:
        super().__init__(task)
        self.teacher = Averaged(self.classifier, decay)

    @property
    def predictor(self) -> Classifier:
        """The averaged classifier."""
        return self.teacher.network

    def after_step(self, step: int) -> None:
        """Average."""
        self.teacher.update(self.classifier, step)
