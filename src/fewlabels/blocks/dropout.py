"""Dropout by name: parts of the network that are left out in training, at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewlabels.errors import ConfigError
from fewlabels.lookup import find


class OriginalDropout(nn.Module):
    """Units are set to zero in training; at test all are there, and scaled by ``1 - probability``.

    Source: Dropout (Srivastava et al., 2014), the weight-scaling rule. The inverted one, which
    scales in training instead, is what torch has.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape to the same shape."""
        if self.training:
            return values * (torch.rand_like(values) >= self.probability)
        return values * (1 - self.probability)


class StochasticDepth(nn.Module):
    """Leaves out the whole residual branch of an image; the others are scaled up.

    Source: Deep Networks with Stochastic Depth (Huang et al., 2016), with the scaling moved to the
    training, as usual today.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """What a branch adds (B, …) to the same shape."""
        if not self.training or self.probability == 0:
            return branch
        draw = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device)
        return branch * ((draw >= self.probability) / (1 - self.probability)).to(branch.dtype)


DROPOUTS: dict[str, Callable[[float], nn.Module]] = {
    "inverted": nn.Dropout,
    "original": OriginalDropout,
    "spatial": nn.Dropout2d,  # whole maps (Tompson et al., 2015)
    "stochastic_depth": StochasticDepth,
}


def dropout(name: str, probability: float) -> nn.Module:
    """A new dropout layer; one that does nothing where `probability` is 0.

    Raises:
        UnknownNameError: no dropout of that name.
        ConfigError: a probability outside of [0, 1).
    """
    make = find(DROPOUTS, name, "dropout")
    if not 0 <= probability < 1:
        raise ConfigError(
            f"The probability of {name} dropout must be in [0, 1): something must be left. Got "
            f"{probability}."
        )
    return make(probability) if probability > 0 else nn.Identity()
