"""Residual multilayer perceptron: deep, and fully connected layers only."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.activations import KeepingActivationName, activation
from fewlabels.blocks.dropout import StochasticDepth, dropout
from fewlabels.blocks.initialisation import Initialisation, empty_linear, initialise
from fewlabels.blocks.norms import NormName, norm
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.mlp import MLPConfig, MLPDecoder
from fewlabels.networks.settings import NetworkConfig


@dataclass(frozen=True, kw_only=True, config=RULES)
class ResidualMLPConfig(NetworkConfig):
    """Settings of the residual multilayer perceptron."""

    name: Literal["residual_mlp"] = "residual_mlp"
    centre: Literal["channel", "pixel", "none"] = "channel"
    # Outputs of the first layer and of every block.
    width: PositiveInt = 768
    blocks: NonNegativeInt = 2
    # Units inside a block.
    hidden: PositiveInt = 768
    activation: KeepingActivationName = "relu"
    norm: NormName = "batch"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # Probability that a block is left out, in training.
    stochastic_depth: float = Field(default=0.0, ge=0.0, lt=1.0)
    initialisation: Initialisation = "kaiming"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> ResidualMLP:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return ResidualMLP(self, image_shape, generator)

    def build_decoder(
        self, image_shape: ImageShape, num_features: int, output: str, generator: torch.Generator
    ) -> MLPDecoder:
        """A fully connected decoder with one hidden layer."""
        mirror = MLPConfig(widths=(self.hidden, num_features), activation=self.activation)
        return MLPDecoder(mirror, image_shape, num_features, output, generator)


class Block(nn.Module):
    """``x + linear(act(norm(linear(act(norm(x))))))``, after He et al. (2016)."""

    def __init__(self, config: ResidualMLPConfig) -> None:
        super().__init__()
        self.change = nn.Sequential()
        for inputs, outputs in ((config.width, config.hidden), (config.hidden, config.width)):
            self.change.append(norm(config.norm, inputs))
            self.change.append(activation(config.activation))
            self.change.append(dropout("inverted", config.dropout))
            self.change.append(empty_linear(inputs, outputs))
        self.change.append(StochasticDepth(config.stochastic_depth))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to the same shape."""
        joined: Tensor = features + self.change(features)
        return joined


class ResidualMLP(Encoder):
    """Standardise, flatten, a linear layer, residual blocks, a last norm and activation.

    Source: the blocks of Identity Mappings in Deep Residual Networks (He et al., 2016), without
    convolutions.
    """

    def __init__(
        self, config: ResidualMLPConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        self.num_features = config.width
        self.standardise = Standardise(image_shape, config.centre)
        self.enter = empty_linear(channels * height * width, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.leave = nn.Sequential(norm(config.norm, config.width), activation(config.activation))
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        features: Tensor = self.enter(self.standardise(images).flatten(1))
        for block in self.blocks:
            features = block(features)
        left: Tensor = self.leave(features)
        return left

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images)

    def stages(self) -> list[list[nn.Module]]:
        """The first layer, then one stage a block; the last norm belongs to the last one."""
        groups: list[list[nn.Module]] = [[self.enter], *[[block] for block in self.blocks]]
        groups[-1].append(self.leave)
        return groups
