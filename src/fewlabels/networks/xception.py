"""Xception: depthwise-separable convolutions with shortcuts."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import empty_convolution, initialise
from fewlabels.blocks.norms import BatchNorm2d
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.settings import refuse_unused
from fewlabels.networks.sides import require_side, takes_small

_CLASSIC_SIDE, _SMALLEST_SIDE = 33, 4


@dataclass(frozen=True, kw_only=True, config=RULES)
class XceptionConfig(ConvolutionalConfig):
    """Settings of Xception."""

    name: Literal["xception"] = "xception"
    # "classic" is the paper's for 299 × 299 pixels; "small" keeps the sides at first; "auto" goes
    # by the images.
    variant: Literal["auto", "classic", "small"] = "auto"
    # Maps of the small variant after its three entry blocks, and blocks in its middle.
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    middle: NonNegativeInt = 2

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> Xception:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return Xception(self, image_shape, generator)


def separable(inputs: int, outputs: int, activation: str = "linear") -> ConvolutionUnit:
    """Each map filtered by itself, then mixed; then a batch norm."""
    return ConvolutionUnit(inputs, outputs, kind="depthwise_separable", activation_name=activation)


class Block(nn.Module):
    """Rectifiers and separable convolutions with a shortcut around them.

    Args:
        widths: maps before and after each convolution.
        stride: of the pooling at the end, and of the shortcut.
        rectify_first: whether it starts with a rectifier.
    """

    def __init__(
        self, widths: tuple[int, ...], stride: int = 1, *, rectify_first: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            if number or rectify_first:
                self.layers.append(nn.ReLU())
            self.layers.append(separable(inputs, outputs))
        if stride != 1:
            self.layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or widths[0] != widths[-1]:
            self.shortcut = nn.Sequential(
                empty_convolution(widths[0], widths[-1], 1, stride=stride, bias=False),
                BatchNorm2d(widths[-1]),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        joined: Tensor = self.layers(maps) + self.shortcut(maps)
        return joined


class Xception(Encoder):
    """Entry, middle and exit flow, and the mean over all places.

    Source: Xception: Deep Learning with Depthwise Separable Convolutions (Chollet, 2017).
    """

    def __init__(
        self, config: XceptionConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        small = takes_small(config.variant, image_shape)
        require_side(image_shape, _SMALLEST_SIDE if small else _CLASSIC_SIDE, "xception")
        if not small:
            refuse_unused(config, ("widths", "middle"), "in the classic variant of xception")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        channels = image_shape[0]
        if small:
            first, second, wide = config.widths
            self.stem: nn.Module = ConvolutionUnit(channels, first)
            self.entry = nn.Sequential(
                Block((first, first, second), 2, rectify_first=False),
                Block((second, second, wide), 2),
            )
            self.middle = nn.Sequential(*[Block((wide,) * 4) for _ in range(config.middle)])
            self.exit = nn.Sequential(separable(wide, 2 * wide, "relu"))
            self.num_features = 2 * wide
        else:
            self.stem = nn.Sequential(
                ConvolutionUnit(channels, 32, stride=2, padding="valid", floor=True),
                ConvolutionUnit(32, 64, padding="valid"),
            )
            self.entry = nn.Sequential(
                Block((64, 128, 128), 2, rectify_first=False),
                Block((128, 256, 256), 2),
                Block((256, 728, 728), 2),
            )
            self.middle = nn.Sequential(*[Block((728,) * 4) for _ in range(8)])
            self.exit = nn.Sequential(
                Block((728, 728, 1024), 2),
                separable(1024, 1536, "relu"),
                separable(1536, 2048, "relu"),
            )
            self.num_features = 2048
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H', W')."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.exit(self.middle(self.entry(self.stem(pixels))))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """Stem, entry, middle and exit."""
        return [[self.stem], [self.entry], [self.middle], [self.exit]]
