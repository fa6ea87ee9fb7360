"""The first layer of every encoder: pixels to zero mean and unit deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError


class Standardise(nn.Module):
    """``(images - mean) / deviation``, with statistics saved among the weights.

    Attributes:
        mean: float32 (C, 1, 1), or (C, H, W) for a mean image; of pixels in [0, 1].
        deviation: float32 (C, 1, 1), positive.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, image_shape: ImageShape, centre: str = "channel") -> None:
        super().__init__()
        channels, height, width = image_shape
        self.centre = centre
        size = (height, width) if centre == "pixel" else (1, 1)
        self.register_buffer("mean", torch.zeros(channels, *size))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def set_statistics(self, mean_image: Tensor, deviation: Tensor) -> None:
        """Take over the training images' mean image (C, H, W) and channels' deviation (C,)."""
        if self.centre == "none":
            return
        if self.centre == "channel":
            mean_image = mean_image.mean(dim=(1, 2), keepdim=True)
        self.mean.copy_(mean_image)
        # A channel without any contrast would otherwise divide by zero.
        self.deviation.copy_(deviation.reshape(self.deviation.shape).clamp_min(1e-3))

    def forward(self, images: Tensor) -> Tensor:
        """Images float (B, C, H, W) in [0, 1] to the same shape.

        Raises:
            ConfigError: images of other channels, which would be taken for others' copies.
        """
        if images.shape[1] != len(self.deviation):
            raise ConfigError(
                f"This network is built for images of {len(self.deviation)} channels. Got "
                f"{images.shape[1]}. Build it for such images."
            )
        scale = self.deviation.reciprocal()
        # One pass over the pixels instead of two.
        return torch.addcmul(-self.mean * scale, images, scale)
