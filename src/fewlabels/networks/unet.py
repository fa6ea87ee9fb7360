"""U-Net: down to small maps and up again, with the large maps carried across."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import empty_convolution, empty_transposed, initialise
from fewlabels.blocks.norms import NormName
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.sides import halvings, require_side

_USUAL_DEPTH = 4


@dataclass(frozen=True, kw_only=True, config=RULES)
class UNetConfig(ConvolutionalConfig):
    """Settings of the U-Net; width 64, depth 4 and no norm are the paper's."""

    name: Literal["unet"] = "unet"
    # Maps of the first level; each level has twice as many.
    width: PositiveInt = 32
    # How often the sides are halved; "auto" is 4, or as often as the image allows.
    depth: NonNegativeInt | Literal["auto"] = "auto"
    norm: NormName = "batch"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> UNet:
        """The way down, for images of `image_shape`, its weights drawn from `generator`."""
        return UNet(self, image_shape, generator)

    def build_dense(self, encoder: UNet, num_outputs: int, generator: torch.Generator) -> UNetUp:
        """The way up: one map an output, as large as the image."""
        return UNetUp(self, encoder.widths, num_outputs, generator)


def _twice(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        ConvolutionUnit(inputs, outputs, norm=norm), ConvolutionUnit(outputs, outputs, norm=norm)
    )


class UNet(Encoder):
    """Two convolutions a level, and a pooling between levels; the lowest level's mean is given out.

    Source: U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al.,
    2015). Unlike there, the maps keep their sides.
    """

    def __init__(
        self, config: UNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        depth = config.depth
        if depth == "auto":
            depth = halvings(image_shape, _USUAL_DEPTH)
        require_side(image_shape, 2**depth, f"unet with depth {depth}")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        self.widths = [config.width << level for level in range(depth + 1)]
        self.num_features = self.widths[-1]
        sizes = [image_shape[0], *self.widths]
        self.down = nn.ModuleList(
            nn.Sequential(
                *([nn.MaxPool2d(2)] if level else []), *_twice(inputs, outputs, config.norm)
            )
            for level, (inputs, outputs) in enumerate(pairwise(sizes))
        )
        initialise(self, config.initialisation, generator)

    def levels(self, images: Tensor, shifts: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Images to the maps of all levels.

        Args:
            images: (B, C, H, W) in [0, 1].
            shifts: what is added to the maps of each level, (B, D) with D as in `widths`; by this a
                diffusion model tells the time. None adds nothing.

        Returns:
            Maps (B, D, H', W'), the largest first.
        """
        maps = self.standardise(images).contiguous(memory_format=torch.channels_last)
        found = []
        for number, level in enumerate(self.down):
            maps = level(maps)
            if shifts is not None:
                maps = maps + shifts[number][:, :, None, None]
            found.append(maps)
        return found

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the lowest maps (B, D, H', W')."""
        return self.levels(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """One stage a level."""
        return [[level] for level in self.down]


class UNetUp(nn.Module):
    """From the lowest level up, each time beside the maps of the way down.

    Args:
        config: of the network.
        widths: maps of the levels, the largest first.
        num_outputs: K.
        generator: of the weights.
    """

    def __init__(
        self,
        config: UNetConfig,
        widths: list[int],
        num_outputs: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        steps = list(pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(
            empty_transposed(wide, narrow, 2, stride=2) for wide, narrow in steps
        )
        self.merge = nn.ModuleList(_twice(2 * narrow, narrow, config.norm) for _, narrow in steps)
        self.outputs = empty_convolution(widths[0], num_outputs, 1)
        initialise(self, config.initialisation, generator)

    def forward(self, levels: list[Tensor], shifts: Sequence[Tensor] | None = None) -> Tensor:
        """Maps of all levels, the largest first, to (B, K, H, W).

        Args:
            levels: from `UNet.levels`.
            shifts: what is added after each enlargement, (B, D), the smallest maps' first.
        """
        maps, *across = reversed(levels)
        steps = zip(self.enlarge, self.merge, across, strict=True)
        for number, (enlarge, merge, beside) in enumerate(steps):
            larger = enlarge(maps)
            # An odd side lost its last pixel on the way down.
            missing = [b - a for a, b in zip(larger.shape[2:], beside.shape[2:], strict=True)]
            larger = F.pad(larger, (0, missing[1], 0, missing[0]))
            if shifts is not None:
                larger = larger + shifts[number][:, :, None, None]
            maps = merge(torch.cat([beside, larger], dim=1))
        found: Tensor = self.outputs(maps)
        return found
