"""SegNet: the way up puts each value where the pooling took it from."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import empty_convolution, initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.blocks.upsampling import Unpooling
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.sides import require_side


@dataclass(frozen=True, kw_only=True, config=RULES)
class SegNetConfig(ConvolutionalConfig):
    """Settings of SegNet.

    Widths 64, 128, 256, 512, 512 with 2, 2, 3, 3, 3 convolutions are the paper's.
    """

    name: Literal["segnet"] = "segnet"
    # Maps of the levels; after each one the sides are halved.
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128), min_length=1)
    # Convolutions of the levels; one number for all of them, or one for each.
    convolutions: PositiveInt | tuple[PositiveInt, ...] = 2

    def counts(self) -> list[int]:
        """Convolutions of each level."""
        if isinstance(self.convolutions, int):
            return [self.convolutions] * len(self.widths)
        return list(self.convolutions)

    def __post_init__(self) -> None:
        """Check what only holds between two settings."""
        if len(self.counts()) != len(self.widths):
            raise ValueError(
                f"must hold one number for each of the {len(self.widths)} widths, or be one number"
            )

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> SegNet:
        """The way down, for images of `image_shape`, its weights drawn from `generator`."""
        return SegNet(self, image_shape, generator)

    def build_dense(
        self, encoder: SegNet, num_outputs: int, generator: torch.Generator
    ) -> SegNetUp:
        """The way up: one map an output, as large as the image."""
        return SegNetUp(self, num_outputs, generator)


class SegNet(Encoder):
    """Convolutions with batch norm and a pooling in each level.

    Source: SegNet (Badrinarayanan et al., 2017).
    """

    def __init__(
        self, config: SegNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        require_side(image_shape, 2 ** len(config.widths), "segnet")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        self.num_features = config.widths[-1]
        sizes = [image_shape[0], *config.widths]
        self.down = nn.ModuleList(
            nn.Sequential(
                *[
                    ConvolutionUnit(inputs if not number else outputs, outputs)
                    for number in range(count)
                ]
            )
            for (inputs, outputs), count in zip(pairwise(sizes), config.counts(), strict=True)
        )
        initialise(self, config.initialisation, generator)

    def levels(self, images: Tensor) -> tuple[Tensor, list[tuple[Tensor, tuple[int, int]]]]:
        """The lowest maps, and for each pooling its places and the sides before it."""
        maps = self.standardise(images).contiguous(memory_format=torch.channels_last)
        found = []
        for level in self.down:
            maps = level(maps)
            sides = (int(maps.shape[2]), int(maps.shape[3]))
            maps, places = F.max_pool2d(maps, 2, return_indices=True)
            found.append((places, sides))
        return maps, found

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the lowest maps (B, D, H', W')."""
        return self.levels(images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """One stage a level."""
        return [[level] for level in self.down]


class SegNetUp(nn.Module):
    """The levels in reverse: unpooling, then convolutions, then one map an output."""

    def __init__(self, config: SegNetConfig, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.unpool = Unpooling()
        widths = config.widths
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            last = widths[max(0, level - 1)]
            sizes = [widths[level]] * config.counts()[level] + [last]
            self.up.append(nn.Sequential(*[ConvolutionUnit(a, b) for a, b in pairwise(sizes)]))
        self.outputs = empty_convolution(widths[0], num_outputs, 1)
        initialise(self, config.initialisation, generator)

    def forward(self, levels: tuple[Tensor, list[tuple[Tensor, tuple[int, int]]]]) -> Tensor:
        """What `SegNet.levels` gives, to (B, K, H, W)."""
        maps, poolings = levels
        for layers, (places, sides) in zip(self.up, reversed(poolings), strict=True):
            maps = layers(self.unpool(maps, places, sides))
        found: Tensor = self.outputs(maps)
        return found
