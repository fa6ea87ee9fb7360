"""Doubling of the sides of maps (B, C, H, W), by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_transposed
from fewlabels.lookup import find, known_in


class Interpolation(nn.Module):
    """Doubles the sides by interpolation, which has no weights."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, 2H, 2W)."""
        corners = None if self.mode == "nearest" else False
        return F.interpolate(maps, scale_factor=2, mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        """For print."""
        return self.mode


class Unpooling(nn.Module):
    """Puts each value where max pooling took it from, and zero elsewhere.

    Without the places, each value goes to the first pixel of its square.

    Source: SegNet (Badrinarayanan et al., 2017); without places, Learning to Generate Chairs
    (Dosovitskiy et al., 2015).
    """

    def forward(
        self,
        maps: Tensor,
        places: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Maps (B, C, H, W) to (B, C, 2H, 2W), or of the given size.

        Args:
            maps: the values.
            places: int64 (B, C, H, W), as ``F.max_pool2d(..., return_indices=True)`` gives them.
            size: (H', W') before the pooling, where it was odd.
        """
        height, width = size or (2 * maps.shape[2], 2 * maps.shape[3])
        if places is None:
            rows = torch.arange(maps.shape[2], device=maps.device) * 2
            columns = torch.arange(maps.shape[3], device=maps.device) * 2
            places = (rows.view(-1, 1) * width + columns).expand(maps.shape)
        spread = maps.new_zeros(*maps.shape[:2], height * width)
        filled = spread.scatter(2, places.flatten(2), maps.flatten(2))
        return torch.unflatten(filled, 2, (height, width))


UPSAMPLINGS: dict[str, Callable[[int], nn.Module]] = {
    "nearest": lambda num_channels: Interpolation("nearest"),
    "bilinear": lambda num_channels: Interpolation("bilinear"),
    "bicubic": lambda num_channels: Interpolation("bicubic"),
    "transposed": lambda num_channels: empty_transposed(num_channels, num_channels, 2, stride=2),
    "unpooling": lambda num_channels: Unpooling(),
}
"""From the name to what builds a layer for so many channels."""

UpsamplingName = Annotated[str, AfterValidator(known_in(UPSAMPLINGS, "upsampling"))]
"""In settings: a name of the table."""


def upsampling(name: str, num_channels: int) -> nn.Module:
    """A new layer: maps (B, `num_channels`, H, W) to (B, `num_channels`, 2H, 2W).

    Raises:
        UnknownNameError: no upsampling of that name.
    """
    return find(UPSAMPLINGS, name, "upsampling")(num_channels)
