"""Averages of weights over training."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Averaged(nn.Module, Generic[Network]):
    """Exponential moving average of weights *and* batch-norm statistics, always in evaluation mode.

    ``average = d * average + (1 - d) * network`` after each step, with
    ``d = min(decay, (1 + step) / (10 + step))``, so that the first steps are soon forgotten.

    Source: Mean teachers are better role models (Tarvainen and Valpola, 2017).

    Args:
        network: whose average it is; starts as its copy.
        decay: d.
    """

    network: Network

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    def forward(self, inputs: Tensor) -> Tensor:
        """What the averaged network gives."""
        output: Tensor = self.network(inputs)
        return output

    def train(self, mode: bool = True) -> Averaged[Network]:
        """Stays in evaluation mode: its statistics are averages, too."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network; numbers that are no averages are taken over."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = self.network.state_dict(), network.state_dict()
        averaged = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [ours[name] for name in averaged], [theirs[name] for name in averaged], 1 - decay
        )
        for name in ours.keys() - set(averaged):
            ours[name].copy_(theirs[name])
