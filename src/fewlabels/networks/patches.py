"""Images as sequences of patches, for transformers and mixers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_convolution
from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError
from fewlabels.networks.sides import is_small

_MOST_PATCHES_SMALL, _MOST_PATCHES = 64, 196


class Patches(nn.Module):
    """Images (B, C, H, W) to tokens (B, T, D): each patch through one and the same linear layer.

    Args:
        image_shape: (C, H, W).
        num_features: D.
        size: side of a patch in pixels; "auto" makes at most 64 patches of small images and 196 of
            larger ones, and fills up where it does not divide.

    Raises:
        ConfigError: a size that does not divide the sides.
    """

    def __init__(
        self, image_shape: ImageShape, num_features: int, size: int | Literal["auto"]
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if size == "auto":
            size = _fitting_size(image_shape)
        elif height % size or width % size:
            raise ConfigError(
                f"Patches of {size} × {size} pixels do not divide an image of {height} × {width}. "
                f"Choose a divisor of both sides, or auto, which fills the image up."
            )
        self.size = size
        self.missing = (0, -width % size, 0, -height % size)
        self.num_patches = -(-height // size) * -(-width // size)
        self.embed = empty_convolution(channels, num_features, size, stride=size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to tokens (B, T, D), row by row."""
        maps: Tensor = self.embed(F.pad(images, self.missing))
        return maps.flatten(2).transpose(1, 2)


def _fitting_size(image_shape: ImageShape) -> int:
    """The smallest side of at least 2 pixels that makes few enough patches, best one that divides.

    Where both sides are prime to all that is nearly as small, the image is filled up instead.
    """
    _, height, width = image_shape
    most = _MOST_PATCHES_SMALL if is_small(image_shape) else _MOST_PATCHES
    fits = [
        size
        for size in range(2, max(height, width) + 1)
        if -(-height // size) * -(-width // size) <= most
    ]
    smallest = fits[0] if fits else 1
    dividing = [size for size in fits if not height % size and not width % size]
    return dividing[0] if dividing and dividing[0] <= 2 * smallest else smallest
