"""Stop when validation no longer improves."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Remembers the best score and counts the epochs since.

    Args:
        patience: epochs without improvement that are allowed; 0 never stops.
        best: lowest score so far.
        best_epoch: its epoch, from 0; -1 before the first.
        waited: epochs since.
    """

    patience: int
    best: float = math.inf
    best_epoch: int = -1
    waited: int = 0

    def update(self, score: float, epoch: int) -> bool:
        """Take in an epoch's score (lower is better); whether it is the best so far."""
        if score < self.best:
            self.best, self.best_epoch, self.waited = score, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.waited
