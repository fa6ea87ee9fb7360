"""Inception (GoogLeNet): kernels of several sizes beside each other."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.sides import require_side, takes_small

# Maps of the 1 × 1; the reduction before the 3 × 3, and the 3 × 3; the same for the largest kernel;
# and the 1 × 1 after the pooling (table 1 of the paper).
Widths = tuple[int, int, int, int, int, int]

STAGES: tuple[tuple[Widths, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Of GoogLeNet; between the stages the sides are halved."""

_SMALL_STAGES: tuple[tuple[Widths, ...], ...] = (
    ((16, 24, 32, 4, 8, 8), (32, 32, 48, 8, 24, 16)),
    ((48, 24, 52, 4, 12, 16), (64, 40, 80, 8, 32, 32)),
    ((64, 40, 80, 8, 32, 32), (96, 48, 96, 12, 32, 32)),
)
_CLASSIC_SIDE = 32


@dataclass(frozen=True, kw_only=True, config=RULES)
class InceptionConfig(ConvolutionalConfig):
    """Settings of the Inception network."""

    name: Literal["inception"] = "inception"
    # "classic" is GoogLeNet for 224 × 224 pixels, "small" a quarter as wide, with a stem that keeps
    # the sides; "auto" goes by the images.
    variant: Literal["auto", "classic", "small"] = "auto"
    # Whether 1 × 1 convolutions narrow the maps before the large kernels; without ("naive") the
    # maps grow with every module.
    reduction: bool = True
    # 5 in the paper; 3 in torchvision and in most weights that are passed around.
    largest_kernel: Literal[3, 5] = 3
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> Inception:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return Inception(self, image_shape, generator)


def _halving() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, padding=1)


class Parallel(nn.Module):
    """Branches whose maps are put beside each other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, sum of the branches' maps, H, W)."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)


def inception_module(inputs: int, widths: Widths, config: InceptionConfig) -> tuple[Parallel, int]:
    """An inception module, and how many maps it gives."""
    one, reduce, three, reduce_more, large, after_pool = widths
    kernel = config.largest_kernel
    pool = nn.MaxPool2d(3, 1, padding=1)
    if not config.reduction:
        plain = zip((one, three, large), (1, 3, kernel), strict=True)
        units = [ConvolutionUnit(inputs, width, side) for width, side in plain]
        return Parallel(*units, pool), one + three + large + inputs
    branches = [
        nn.Sequential(ConvolutionUnit(inputs, one, 1)),
        nn.Sequential(ConvolutionUnit(inputs, reduce, 1), ConvolutionUnit(reduce, three, 3)),
        nn.Sequential(
            ConvolutionUnit(inputs, reduce_more, 1), ConvolutionUnit(reduce_more, large, kernel)
        ),
        nn.Sequential(pool, ConvolutionUnit(inputs, after_pool, 1)),
    ]
    return Parallel(*branches), one + three + large + after_pool


class Inception(Encoder):
    """A stem, nine modules in three stages, and the mean over all places.

    As in torchvision: with batch norm, and without the two auxiliary heads.

    Source: Going Deeper with Convolutions (Szegedy et al., 2015).
    """

    def __init__(
        self, config: InceptionConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        small = takes_small(config.variant, image_shape)
        require_side(image_shape, 4 if small else _CLASSIC_SIDE, "inception")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        if small:
            width = 32
            self.stem = nn.Sequential(ConvolutionUnit(image_shape[0], width, 3))
        else:
            width = 192
            self.stem = nn.Sequential(
                ConvolutionUnit(image_shape[0], 64, 7, stride=2, floor=True),
                _halving(),
                ConvolutionUnit(64, 64, 1),
                ConvolutionUnit(64, width, 3),
                _halving(),
            )
        self.levels = nn.ModuleList()
        for level, stage in enumerate(_SMALL_STAGES if small else STAGES):
            layers = nn.Sequential(_halving()) if level else nn.Sequential()
            for widths in stage:
                made, width = inception_module(width, widths, config)
                layers.append(made)
            self.levels.append(layers)
        self.dropout = nn.Dropout(config.dropout)
        self.num_features = width
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H', W')."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.stem(pixels)
        for stage in self.levels:
            maps = stage(maps)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        features: Tensor = self.dropout(self.forward_features(images).mean(dim=(2, 3)))
        return features

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the three stages."""
        return [[self.stem], *[[stage] for stage in self.levels]]
