"""Grey to colour and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# ITU-R BT.601 luma in 16-bit fixed point, the weights that Pillow uses for mode L.
_RED, _GREEN, _BLUE, _HALF = 19595, 38470, 7471, 1 << 15
_AT_ONCE = 1024


def match_channels(images: npt.NDArray[Any], num_channels: int) -> npt.NDArray[Any]:
    """Repeat grey to colour, or turn colour into grey by its luminance.

    Args:
        images: uint8 or float32 (N, C, H, W).
        num_channels: 1 or 3.

    Returns:
        The same type, (N, num_channels, H, W); `images` itself where nothing changes.
    """
    if images.shape[1] == num_channels:
        return images
    if num_channels == 3:
        return images.repeat(3, axis=1)
    grey = np.empty((len(images), 1, *images.shape[2:]), dtype=images.dtype)
    for start in range(0, len(images), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        wide = np.uint32 if images.dtype == np.uint8 else np.float32
        red, green, blue = images[part].astype(wide).transpose(1, 0, 2, 3)
        luminance = red * _RED + green * _GREEN + blue * _BLUE
        if images.dtype == np.uint8:
            grey[part, 0] = (luminance + _HALF) >> 16
        else:
            grey[part, 0] = np.clip(luminance / (1 << 16), 0, 1)
    return grey
