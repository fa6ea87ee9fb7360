"""Transfer strategies by name: what happens to the encoder once labels come in."""

from __future__ import annotations

from collections.abc import Mapping

from fewlabels.transfer.discriminative import Discriminative
from fewlabels.transfer.frozen import Frozen
from fewlabels.transfer.full import Full
from fewlabels.transfer.gradual import Gradual
from fewlabels.transfer.strategy import Strategy

STRATEGIES: Mapping[str, type[Strategy]] = {
    "frozen": Frozen,
    "full": Full,
    "discriminative": Discriminative,
    "gradual": Gradual,
}
