"""From the arrays that scikit-learn's users hold to images, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scaling:
    """How values become pixels in [0, 1], learnt from the training array.

    Attributes:
        low: subtracted; a number for images, one per column for tables.
        high: becomes 1.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Values as float32, in [0, 1] where they lie in the training range."""
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        return ((values.astype(np.float64) - self.low) / span).astype(np.float32)


def learn_scaling(values: npt.NDArray[Any]) -> Scaling:
    """Range of uint8 by its type, of floats in [0, 1] as they are, else by what occurs.

    Args:
        values: (N, D), each column on its own; or images (N, H, W) and (N, H, W, C), all together.
    """
    if values.dtype == np.uint8:
        return Scaling(np.zeros(()), np.full((), 255.0))
    if values.ndim == 2:
        return Scaling(values.min(axis=0).astype(float), values.max(axis=0).astype(float))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return Scaling(np.asarray(low), np.asarray(high))


def to_images(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, D), (N, H, W) or (N, H, W, C) as contiguous (N, C, H, W).

    Raises:
        ValueError: colour images without 1 or 3 channels.
    """
    if scaled.ndim == 2:
        return np.ascontiguousarray(scaled[:, None, None, :])
    if scaled.ndim == 3:
        return np.ascontiguousarray(scaled[:, None])
    if scaled.ndim == 4 and scaled.shape[3] in (1, 3):
        return np.ascontiguousarray(np.moveaxis(scaled, 3, 1))
    raise ValueError(
        "X must have shape (N, D), (N, H, W) or (N, H, W, C) with 1 or 3 channels. "
        f"Got {scaled.shape}."
    )
