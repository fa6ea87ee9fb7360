"""The first layer of every encoder: pixels to zero mean and unit deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """``(images - mean) / deviation`` per channel, with statistics saved among the weights.

    Attributes:
        mean: float32 (C, 1, 1), of pixels in [0, 1].
        deviation: float32 (C, 1, 1), positive.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Take over statistics, float (C,), measured on the training images."""
        self.mean.copy_(mean.reshape(self.mean.shape))
        # A channel without any contrast would otherwise divide by zero.
        self.deviation.copy_(deviation.reshape(self.deviation.shape).clamp_min(1e-3))

    def forward(self, images: Tensor) -> Tensor:
        """Images float (B, C, H, W) in [0, 1] to the same shape."""
        return (images - self.mean) / self.deviation
