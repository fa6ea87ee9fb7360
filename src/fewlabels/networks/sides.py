"""What networks ask of the sides of images."""

from __future__ import annotations

from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError

LARGEST_SMALL_SIDE = 64
"""Of images for which the small variants of the classic networks are meant."""


def is_small(image_shape: ImageShape) -> bool:
    """Whether the shorter side, which leaves room for strides or not, is that of small images."""
    return min(image_shape[1:]) <= LARGEST_SMALL_SIDE


def takes_small(variant: str, image_shape: ImageShape) -> bool:
    """Whether the small variant is meant: by its name, or with "auto" by the images."""
    return variant == "small" or (variant == "auto" and is_small(image_shape))


def require_side(image_shape: ImageShape, least: int, network: str) -> None:
    """Refuse images that are too small for a network's strides.

    Raises:
        ConfigError: the shorter side is below `least`.
    """
    _, height, width = image_shape
    if min(height, width) < least:
        raise ConfigError(
            f"The network {network} needs images of at least {least} × {least} pixels. "
            f"Got {height} × {width}. Enlarge them (fit has --image-size {least}), or choose "
            "another network or variant; mlp takes any size."
        )


def halvings(image_shape: ImageShape, most: int) -> int:
    """How often the shorter side can be halved, rounding down, until one pixel is left."""
    return min(most, min(image_shape[1:]).bit_length() - 1)
