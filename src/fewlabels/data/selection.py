"""Some images of an array, by position: nothing is copied until it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.memory import gather


class Selection:
    """A view of the images at given positions of an array, in that order.

    It stands wherever images are indexed, and saves the copy that NumPy would make of a million
    of them.

    Attributes:
        images: uint8 or float32 (N, C, H, W), in memory or mapped from disk.
        positions: int64 (M,).
    """

    def __init__(self, images: npt.NDArray[Any], positions: npt.NDArray[np.integer[Any]]) -> None:
        self.images = images
        self.positions = np.asarray(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, C, H, W)."""
        return (len(self.positions), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the images."""
        return self.images.dtype

    def __getitem__(self, key: slice | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of the images at these places of the selection."""
        return gather(self.images, self.positions[key])

    def narrow(self, places: npt.NDArray[Any]) -> Selection:
        """The selection of these places of the selection."""
        return Selection(self.images, self.positions[places])


Images = npt.NDArray[Any] | Selection
"""Images (N, C, H, W), whole or selected."""


def select(images: Images, places: npt.NDArray[Any]) -> Selection:
    """The images at `places`, without copying them."""
    return images.narrow(places) if isinstance(images, Selection) else Selection(images, places)
