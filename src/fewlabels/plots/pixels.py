"""Small images for pages."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def png_data_uri(image: npt.NDArray[Any]) -> str:
    """A uint8 image (C, H, W) as ``data:image/png;base64,…``, at its own size."""
    channels_last = np.moveaxis(image, 0, -1)
    pixels = channels_last[..., 0] if image.shape[0] == 1 else channels_last
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
