"""Only the head learns."""

from __future__ import annotations

from fewlabels.transfer.strategy import Strategy


class Frozen(Strategy):
    """The encoder stays as it was pretrained; a linear classifier is trained on its features.

    Right where labels are fewest and the pretraining images are like the labelled ones.
    """

    def learning_rate_scales(self, num_stages: int) -> list[float]:
        """No stage learns."""
        return [0.0] * num_stages

    def num_frozen(self, num_stages: int, epoch: int, num_epochs: int) -> int:
        """All stages, in every epoch."""
        return num_stages
