"""Pooling of maps (B, C, H, W) by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.lookup import find


class AveragePool(nn.Module):
    """Mean over squares of 2 × 2 pixels; an odd last row or column is left out.

    In bfloat16 on a CPU and without gradient, it runs as a convolution of each map with a constant
    kernel, several times faster than torch's pooling of few maps. Backwards, and in float32, that
    would be slower.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H // 2, W // 2)."""
        if maps.requires_grad or maps.dtype != torch.bfloat16 or maps.device.type != "cpu":
            return F.avg_pool2d(maps, 2)
        channels = maps.shape[1]
        kernel = torch.full((channels, 1, 2, 2), 0.25, dtype=maps.dtype)
        return F.conv2d(maps, kernel, stride=2, groups=channels)


class GlobalAveragePool(nn.Module):
    """Mean over all places: maps (B, C, H, W) to vectors (B, C).

    Source: Network in Network (Lin et al., 2014).
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C)."""
        return maps.mean(dim=(2, 3))


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "average": AveragePool,
    "max": lambda: nn.MaxPool2d(2),
    "global_average": GlobalAveragePool,
}
"""The first two halve the sides, the third leaves a vector."""


def pooling(name: str) -> nn.Module:
    """A new pooling layer.

    Raises:
        UnknownNameError: no pooling of that name.
    """
    return find(POOLINGS, name, "pooling")()
