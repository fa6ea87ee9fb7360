"""Decoders of convolutional networks: from a feature vector back to an image."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.activations import activation
from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import (
    Initialisation,
    empty_convolution,
    empty_linear,
    initialise,
)
from fewlabels.blocks.upsampling import UpsamplingName, upsampling
from fewlabels.config import RULES
from fewlabels.contracts import ImageShape
from fewlabels.networks.mlp import MLPConfig, MLPDecoder
from fewlabels.networks.settings import NetworkConfig

_SMALLEST_SIDE = 4
_NARROWEST, _WIDEST = 32, 256


@dataclass(frozen=True, kw_only=True, config=RULES)
class DecodedConfig(NetworkConfig):
    """What the settings of networks have whose features are drawn by a decoder of any kind."""

    # How the decoder of an autoencoder doubles its maps; "mlp" is fully connected.
    decoder: UpsamplingName | Literal["mlp"] = "nearest"

    def build_decoder(
        self, image_shape: ImageShape, num_features: int, output: str, generator: torch.Generator
    ) -> nn.Module:
        """From features (B, D) to images (B, C, H, W) that end in the activation `output`."""
        if self.decoder == "mlp":
            mirror = MLPConfig(widths=(512, num_features))
            return MLPDecoder(mirror, image_shape, num_features, output, generator)
        return ConvolutionalDecoder(self.decoder, image_shape, num_features, output, generator)


@dataclass(frozen=True, kw_only=True, config=RULES)
class ConvolutionalConfig(DecodedConfig):
    """What the settings of convolutional networks have."""

    convolutional: ClassVar[bool] = True

    initialisation: Initialisation = "kaiming"


class ConvolutionalDecoder(nn.Module):
    """A linear layer to small maps, then doublings with a convolution each, then the image.

    With "nearest" and "bilinear", neighbouring pixels are treated alike; "transposed" and
    "unpooling" leave a checkerboard that the convolutions have to smooth (Odena et al.,
    Deconvolution and Checkerboard Artifacts, 2016).

    Args:
        how: name of the upsampling.
        image_shape: (C, H, W) to end with.
        num_features: D.
        output: name of the last activation.
        generator: of the weights.
    """

    def __init__(
        self,
        how: str,
        image_shape: ImageShape,
        num_features: int,
        output: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        doublings = 0
        while min(height, width) >> (doublings + 1) >= _SMALLEST_SIDE:
            doublings += 1
        # Rounded up, as what is too large is cut at the end.
        sides = [-(-side // 2**doublings) for side in (height, width)]
        widths = [min(_WIDEST, _NARROWEST << level) for level in reversed(range(doublings + 1))]
        self.small_shape = (widths[0], *sides)
        self.to_maps = nn.Sequential(
            empty_linear(num_features, widths[0] * sides[0] * sides[1]), activation("relu")
        )
        self.levels = nn.Sequential()
        for wide, narrow in pairwise(widths):
            self.levels.append(upsampling(how, wide))
            self.levels.append(ConvolutionUnit(wide, narrow))
        self.to_pixels = empty_convolution(widths[-1], channels, 3, padding=1)
        self.output = activation(output)
        initialise(self, "kaiming", generator)
        initialise(self.to_pixels, "xavier", generator)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to images (B, C, H, W)."""
        maps: Any = self.to_maps(features).unflatten(1, self.small_shape)
        pixels: Tensor = self.output(self.to_pixels(self.levels(maps)))
        _, height, width = self.image_shape
        return pixels[:, :, :height, :width]
