"""VGG: nothing but convolutions of 3 × 3, and deep."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from fewlabels.blocks.initialisation import empty_convolution, empty_linear, initialise
from fewlabels.blocks.norms import BatchNorm2d
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import ImageShape
from fewlabels.networks.classic import ClassicEncoder
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.settings import refuse_unused
from fewlabels.networks.sides import halvings, require_side, takes_small

CONVOLUTIONS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""From the number of layers with weights to the convolutions of each stage."""

_LEVELS = 5
_CLASSIC_SIDE = 2**_LEVELS


@dataclass(frozen=True, kw_only=True, config=RULES)
class VGGConfig(ConvolutionalConfig):
    """Settings of VGG."""

    name: Literal["vgg"] = "vgg"
    # Layers with weights, two fully connected ones and the head included.
    depth: Literal[11, 13, 16, 19] = 11
    # "classic" is the paper's for 224 × 224 pixels; "small" has narrower maps, and one vector of
    # means in place of its large layers; "auto" goes by the images.
    variant: Literal["auto", "classic", "small"] = "auto"
    # Maps of the first stage in the small variant; they double up to eight times that.
    width: PositiveInt = 32
    # "auto": in the small variant, which hardly learns without.
    batch_norm: bool | Literal["auto"] = "auto"
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> VGG:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return VGG(self, image_shape, generator)


class VGG(ClassicEncoder):
    """Five stages of convolutions, each with a pooling, then two layers.

    Weights of the classic variant are interchangeable with torchvision's ``vgg11`` to ``vgg19``,
    with and without ``_bn``.

    Source: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and
    Zisserman, 2015); batch norm from torchvision.
    """

    def __init__(
        self, config: VGGConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        small = takes_small(config.variant, image_shape)
        require_side(image_shape, 1 if small else _CLASSIC_SIDE, "vgg")
        if not small:
            refuse_unused(config, ("width",), "in the classic variant of vgg")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        normed = small if config.batch_norm == "auto" else config.batch_norm
        first = config.width if small else 64
        self.features, self.ends = _stages(
            image_shape, CONVOLUTIONS[config.depth], first, normed=normed
        )
        if small:
            self.num_features = 8 * first
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential()
        else:
            self.num_features = 4096
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                empty_linear(8 * first * 7 * 7, 4096),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                empty_linear(4096, 4096),
                nn.ReLU(),
                nn.Dropout(config.dropout),
            )
        initialise(self, config.initialisation, generator)

    def stages(self) -> list[list[nn.Module]]:
        """The convolutions up to each pooling, then the layers where there are any."""
        layers = list(self.features)
        stages = [layers[start:end] for start, end in pairwise([0, *self.ends])]
        if not len(self.classifier):
            return [*stages[:-1], [*stages[-1], self.avgpool]]
        return [*stages, [self.avgpool, self.classifier]]


def _stages(
    image_shape: ImageShape, convolutions: tuple[int, ...], first: int, *, normed: bool
) -> tuple[nn.Sequential, list[int]]:
    """The convolutions, and the positions after each stage."""
    layers = nn.Sequential()
    ends = []
    inputs = image_shape[0]
    poolings = halvings(image_shape, _LEVELS)
    for level, count in enumerate(convolutions):
        outputs = first * min(8, 2**level)
        for _ in range(count):
            # A bias before the norm is a dead parameter, but torchvision's weights have it.
            layers.append(empty_convolution(inputs, outputs, 3, padding=1))
            if normed:
                layers.append(BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        if level < poolings:
            layers.append(nn.MaxPool2d(2))
        ends.append(len(layers))
    return layers, ends
