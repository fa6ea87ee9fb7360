"""Many small images in one picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_GAP = 2
_LEAST_SIDE = 56
_GREY = 160


def image_sheet(images: npt.NDArray[Any], columns: int) -> bytes:
    """A PNG file of images in rows, with a gap between them.

    Small images are enlarged by a whole number, pixel by pixel.

    Args:
        images: uint8 (N, C, H, W), or float in [0, 1]; C is 1 or 3.
        columns: images in a row.
    """
    if images.dtype != np.uint8:
        images = (images * 255).round().clip(0, 255).astype(np.uint8)
    count, channels, height, width = images.shape
    scale = max(1, _LEAST_SIDE // max(height, width))
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    height, width = height * scale, width * scale
    rows = -(-count // columns)
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels)
    sheet = np.full(shape, _GREY, dtype=np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = row * (height + _GAP), column * (width + _GAP)
        sheet[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
