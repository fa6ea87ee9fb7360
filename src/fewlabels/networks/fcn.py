"""Fully convolutional network: no layer that knows the size of the image."""

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
from fewlabels.blocks.norms import NormName
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.sides import require_side


@dataclass(frozen=True, kw_only=True, config=RULES)
class FCNConfig(ConvolutionalConfig):
    """Settings of the fully convolutional network."""

    name: Literal["fcn"] = "fcn"
    # Maps of the levels; each level but the first halves the sides.
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128), min_length=1)
    # Maps of the two layers that stand where others have fully connected ones.
    hidden: PositiveInt = 256
    norm: NormName = "batch"
    # Levels that the way up takes maps from; 3 is the paper's FCN-8s with five levels.
    skips: PositiveInt = 3

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> FCN:
        """The way down, for images of `image_shape`, its weights drawn from `generator`."""
        return FCN(self, image_shape, generator)

    def build_dense(self, encoder: FCN, num_outputs: int, generator: torch.Generator) -> FCNUp:
        """The way up: one map an output, as large as the image."""
        return FCNUp(self, num_outputs, generator)


class FCN(Encoder):
    """Two convolutions a level, halving by stride, and 1 × 1 convolutions for the layers.

    Source: Fully Convolutional Networks for Semantic Segmentation (Long et al., 2015); strides in
    place of poolings from Striving for Simplicity (Springenberg et al., 2015).
    """

    def __init__(
        self, config: FCNConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        require_side(image_shape, 2 ** (len(config.widths) - 1), "fcn")
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        self.num_features = config.hidden
        self.down = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(pairwise([image_shape[0], *config.widths])):
            # floor: an odd side is no reason to refuse an image.
            enter = ConvolutionUnit(
                inputs, outputs, stride=2 if level else 1, norm=config.norm, floor=True
            )
            self.down.append(
                nn.Sequential(enter, ConvolutionUnit(outputs, outputs, norm=config.norm))
            )
        self.layers = nn.Sequential(
            ConvolutionUnit(config.widths[-1], config.hidden, 1, norm=config.norm),
            ConvolutionUnit(config.hidden, config.hidden, 1, norm=config.norm),
        )
        initialise(self, config.initialisation, generator)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) to the image, the maps of all levels, and those of the layers."""
        maps = self.standardise(images).contiguous(memory_format=torch.channels_last)
        found = [images]
        for level in self.down:
            maps = level(maps)
            found.append(maps)
        return [*found, self.layers(maps)]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H', W')."""
        return self.levels(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """One stage a level, and the layers."""
        return [*[[level] for level in self.down], [self.layers]]


class FCNUp(nn.Module):
    """A score for each output at several levels, enlarged and added up from the lowest."""

    def __init__(self, config: FCNConfig, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        # The lowest level is scored after the layers instead.
        beside = list(reversed(config.widths[:-1]))[: config.skips - 1]
        self.scores = nn.ModuleList(
            empty_convolution(width, num_outputs, 1) for width in (config.hidden, *beside)
        )
        initialise(self, "xavier", generator)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """What `FCN.levels` gives, to (B, K, H, W)."""
        images, *maps, last = levels
        first, *others = self.scores
        scores: Tensor = first(last)
        for score, beside in zip(others, reversed(maps[:-1]), strict=False):
            scores = _enlarged(scores, beside) + score(beside)
        return _enlarged(scores, images)


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)
