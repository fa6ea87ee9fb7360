"""Everything learns at one rate."""

from __future__ import annotations

from fewlabels.transfer.strategy import Strategy


class Full(Strategy):
    """Pretraining only gives the starting point."""

    def learning_rate_scales(self, num_stages: int) -> list[float]:
        """The full rate for every stage."""
        return [1.0] * num_stages
