"""LeNet-5: the small convolutional network that read cheques."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.activations import ActivationName, activation, num_pieces
from fewlabels.blocks.initialisation import (
    Initialisation,
    empty_convolution,
    empty_linear,
    initialise,
)
from fewlabels.blocks.pooling import AveragePool
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.mlp import MLPConfig, MLPDecoder
from fewlabels.networks.settings import NetworkConfig
from fewlabels.networks.sides import require_side

_SMALLEST_SIDE = 4
_NUM_FEATURES = 84


@dataclass(frozen=True, kw_only=True, config=RULES)
class LeNetConfig(NetworkConfig):
    """Settings of LeNet-5."""

    convolutional: ClassVar[bool] = True

    name: Literal["lenet"] = "lenet"
    activation: ActivationName = "relu"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    initialisation: Initialisation = "kaiming"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> LeNet:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return LeNet(self, image_shape, generator)

    def build_decoder(
        self, image_shape: ImageShape, num_features: int, output: str, generator: torch.Generator
    ) -> MLPDecoder:
        """A fully connected decoder: features to 120, to 400, to the image."""
        mirror = MLPConfig(widths=(400, 120, num_features), activation=self.activation)
        return MLPDecoder(mirror, image_shape, num_features, output, generator)


class LeNet(Encoder):
    """Two convolutions of 5 × 5, each with average pooling, then layers of 120 and 84 units.

    Images of 28 × 28 are padded to 32 × 32, as in the paper; larger ones are taken as they are, and
    those below 16 × 16 are padded before both convolutions. As usual today, every map of the second
    convolution sees all maps of the first, and the units are rectifiers; 61,706 parameters for grey
    images of 28 × 28 with a head of ten classes.

    Source: Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998).
    """

    def __init__(
        self, config: LeNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        require_side(image_shape, _SMALLEST_SIDE, "lenet")
        self.image_shape = image_shape
        self.num_features = _NUM_FEATURES
        self.standardise = Standardise(image_shape)
        first = 2 if max(height, width) <= 28 else 0
        second = 2 if min(height, width) < 16 else 0
        rows, columns = (
            ((side + 2 * first - 4) // 2 + 2 * second - 4) // 2 for side in (height, width)
        )
        pieces = num_pieces(config.activation)
        self.first = nn.Sequential(
            empty_convolution(channels, 6 * pieces, 5, padding=first),
            activation(config.activation),
            AveragePool(),
        )
        self.second = nn.Sequential(
            empty_convolution(6, 16 * pieces, 5, padding=second),
            activation(config.activation),
            AveragePool(),
        )
        self.third = nn.Sequential(
            nn.Flatten(),
            empty_linear(16 * rows * columns, 120 * pieces),
            activation(config.activation),
            nn.Dropout(config.dropout),
        )
        self.fourth = nn.Sequential(
            empty_linear(120, _NUM_FEATURES * pieces),
            activation(config.activation),
            nn.Dropout(config.dropout),
        )
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the maps of the second stage, (B, 16, H', W')."""
        # Pixel by pixel rather than map by map: convolutions of few maps run up to twice as fast.
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.second(self.first(pixels))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, 84)."""
        features: Tensor = self.fourth(self.third(self.forward_features(images)))
        return features

    def stages(self) -> list[list[nn.Module]]:
        """The two convolutions and the two layers."""
        return [[self.first], [self.second], [self.third], [self.fourth]]
