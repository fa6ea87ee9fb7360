"""Image sizes: which one a set gets, and how an image is brought to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewlabels.errors import ConfigError

Size = tuple[int, int]
"""Height, width in pixels."""

LARGEST_SIDE = 1024
# Networks for few labels gain little from more pixels and cost grows with their square.
LARGEST_DEFAULT_SIDE = 96

# The triangle filter widens with the shrinking factor, so it does not alias, and it never leaves
# the range of the source: black stays black, where Lanczos would ring.
_FILTER = Image.Resampling.BILINEAR


def parse_image_size(value: int | str | None) -> Size | None:
    """Read an image size as a user writes it.

    Args:
        value: one side of a square (32 or "32"), "32x48" for height x width, or None.

    Raises:
        ConfigError: it is neither, or a side is outside 1…1024 pixels.
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:\s*[x×]\s*(\d{1,6}))?", str(value).strip().lower())
    if match is not None:
        height = int(match[1])
        width = int(match[2] or height)
        if 1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE:
            return height, width
    raise ConfigError(
        f"The image size must be one side (32) or height x width (32x48), "
        f"each 1…{LARGEST_SIDE} pixels. Got {value!r}."
    )


def usual_size(sizes: Mapping[Size, int]) -> Size:
    """The most common size, shrunk so that its longer side is at most 96; ties go to the larger.

    Args:
        sizes: how often each size occurs; at least one.
    """
    height, width = max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    longer = max(height, width)
    if longer <= LARGEST_DEFAULT_SIDE:
        return height, width
    scale = LARGEST_DEFAULT_SIDE / longer
    return max(1, round(height * scale)), max(1, round(width * scale))


def fit_image(image: Image.Image, size: Size) -> Image.Image:
    """Cut the largest centred box of the target's aspect from an image and resize it, antialiased.

    Args:
        image: of mode L, RGB or F.
        size: the target.
    """
    height, width = size
    if (image.height, image.width) == size:
        return image
    scale = min(image.height / height, image.width / width)
    left = (image.width - width * scale) / 2
    top = (image.height - height * scale) / 2
    right, bottom = image.width - left, image.height - top
    # Rounding must not push the box over the edge: Pillow refuses such a box.
    box = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    return image.resize((width, height), _FILTER, box=box)


def resize_images(images: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Bring a whole array to one size; returns `images` itself where it has that size.

    Args:
        images: uint8 or float32 (N, C, H, W).
        size: the target.
    """
    if images.shape[2:] == size:
        return images
    out = np.empty((*images.shape[:2], *size), dtype=images.dtype)

    def fill(index: int) -> None:
        for channel in range(images.shape[1]):
            out[index, channel] = np.asarray(
                fit_image(Image.fromarray(np.ascontiguousarray(images[index, channel])), size)
            )

    with ThreadPoolExecutor(cpu_count()) as pool:
        for start in range(0, len(images), 1024):
            list(pool.map(fill, range(start, min(start + 1024, len(images)))))
    return out
