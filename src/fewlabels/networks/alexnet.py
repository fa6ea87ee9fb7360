"""AlexNet: the network that made the field turn to deep learning."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from fewlabels.blocks.initialisation import empty_convolution, empty_linear, initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import ImageShape
from fewlabels.networks.classic import ClassicEncoder
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.sides import require_side, takes_small

_CLASSIC_SIDE, _SMALLEST_SIDE = 63, 8


@dataclass(frozen=True, kw_only=True, config=RULES)
class AlexNetConfig(ConvolutionalConfig):
    """Settings of AlexNet."""

    name: Literal["alexnet"] = "alexnet"
    # "classic" is the network of 2014 for 224 × 224 pixels, "small" the same with kernels, strides
    # and layers for images up to 64 × 64; "auto" goes by the images.
    variant: Literal["auto", "classic", "small"] = "auto"
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> AlexNet:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return AlexNet(self, image_shape, generator)


class AlexNet(ClassicEncoder):
    """Five convolutions, three poolings, two layers.

    Weights of the classic variant are interchangeable with torchvision's ``alexnet``.

    Source: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al.,
    2012), in the form of One Weird Trick (Krizhevsky, 2014).
    """

    def __init__(
        self, config: AlexNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        small = takes_small(config.variant, image_shape)
        require_side(image_shape, _SMALLEST_SIDE if small else _CLASSIC_SIDE, "alexnet")
        self.image_shape = image_shape
        self.num_features = 512 if small else 4096
        self.standardise = Standardise(image_shape)
        channels = image_shape[0]
        pool = partial(nn.MaxPool2d, 2) if small else partial(nn.MaxPool2d, 3, 2)
        first = (
            empty_convolution(channels, 64, 3, padding=1)
            if small
            else empty_convolution(channels, 64, 11, stride=4, padding=2)
        )
        kernel = 3 if small else 5
        self.features = nn.Sequential(
            first,
            nn.ReLU(),
            pool(),
            empty_convolution(64, 192, kernel, padding=kernel // 2),
            nn.ReLU(),
            pool(),
            empty_convolution(192, 384, 3, padding=1),
            nn.ReLU(),
            empty_convolution(384, 256, 3, padding=1),
            nn.ReLU(),
            empty_convolution(256, 256, 3, padding=1),
            nn.ReLU(),
            pool(),
        )
        side = 1 if small else 6
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Dropout(config.dropout),
            empty_linear(256 * side * side, self.num_features),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            empty_linear(self.num_features, self.num_features),
            nn.ReLU(),
        )
        initialise(self, config.initialisation, generator)

    def stages(self) -> list[list[nn.Module]]:
        """The convolutions up to each pooling, then the layers."""
        layers = list(self.features)
        return [layers[:3], layers[3:6], layers[6:], [self.avgpool, self.classifier]]
