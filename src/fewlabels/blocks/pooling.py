"""Pooling of maps (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
