"""Stages thaw one after the other, from the head down."""

from __future__ import annotations

from fewlabels.transfer.strategy import Strategy


class Gradual(Strategy):
    """The head learns alone first; then one more stage joins at equal intervals.

    Thawing ends after half of the epochs, so that the whole network learns together for the rest.

    Source: Universal Language Model Fine-tuning for Text Classification (Howard and Ruder, 2018).
    """

    def learning_rate_scales(self, num_stages: int) -> list[float]:
        """The full rate for every stage once it has thawed."""
        return [1.0] * num_stages

    def num_frozen(self, num_stages: int, epoch: int, num_epochs: int) -> int:
        """All stages at first, none from half time on."""
        progress = min(1.0, 2 * epoch / max(1, num_epochs))
        return num_stages - int(progress * num_stages)
