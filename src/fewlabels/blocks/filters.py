"""Fixed filters of image processing as a layer: what the first convolutions learn by themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.lookup import find

FILTERS: dict[str, tuple[tuple[float, ...], ...]] = {
    "edge": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "box": ((1 / 9, 1 / 9, 1 / 9), (1 / 9, 1 / 9, 1 / 9), (1 / 9, 1 / 9, 1 / 9)),
    "gaussian": (
        (1 / 16, 2 / 16, 1 / 16),
        (2 / 16, 4 / 16, 2 / 16),
        (1 / 16, 2 / 16, 1 / 16),
    ),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "sobel_x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel_y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "scharr_x": ((-3, 0, 3), (-10, 0, 10), (-3, 0, 3)),
    "scharr_y": ((-3, -10, -3), (0, 0, 0), (3, 10, 3)),
}
"""Kernels of 3 × 3, laid on the image as they stand (cross-correlation)."""


class FixedFilter(nn.Module):
    """Each map filtered by itself; the border is repeated outwards, so that no edge appears there.

    Args:
        name: of the filter.

    Raises:
        UnknownNameError: no filter of that name.
    """

    kernel: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        kernel = torch.tensor(find(FILTERS, name, "filter"))
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        channels = maps.shape[1]
        kernel = self.kernel.to(maps.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)

    def extra_repr(self) -> str:
        """For print."""
        return self.name
