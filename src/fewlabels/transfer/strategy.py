"""What a transfer strategy decides."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Strategy(ABC):
    """Learning rates and frozen stages of an encoder while it meets the labels.

    Stages count from the image (0) to the features (``num_stages - 1``); the head always learns at
    the full rate.
    """

    @abstractmethod
    def learning_rate_scales(self, num_stages: int) -> list[float]:
        """Factor on the learning rate for each stage; 0 for one that never learns."""

    def num_frozen(self, num_stages: int, epoch: int, num_epochs: int) -> int:
        """How many stages, counted from the image, are frozen in this epoch.

        Batch norms inside frozen stages keep their statistics.
        """
        return 0
