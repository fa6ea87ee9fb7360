"""Early stages learn slower than late ones."""

from __future__ import annotations

from fewlabels.transfer.strategy import Strategy


class Discriminative(Strategy):
    """Learning rate × 1/100 for early stages, × 1/10 for middle ones, in full for the last.

    Early stages hold what all images share, so they need the least change. The stages are cut into
    three runs of equal length; where they do not divide, the slower runs are the shorter ones.

    Source: Universal Language Model Fine-tuning for Text Classification (Howard and Ruder, 2018),
    with the three levels of common vision practice instead of a constant ratio.
    """

    def learning_rate_scales(self, num_stages: int) -> list[float]:
        """1/100, 1/10 or 1 by the stage's place."""
        early, middle = num_stages // 3, (num_stages + 1) // 3
        late = num_stages - early - middle
        return [0.01] * early + [0.1] * middle + [1.0] * late
