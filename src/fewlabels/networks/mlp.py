"""Multilayer perceptron: fully connected layers only."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.activations import ActivationName, activation, num_pieces
from fewlabels.blocks.dropout import dropout
from fewlabels.blocks.initialisation import Initialisation, empty_linear, initialise
from fewlabels.blocks.norms import NormName, norm, without_bias
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.settings import NetworkConfig


@dataclass(frozen=True, kw_only=True, config=RULES)
class MLPConfig(NetworkConfig):
    """Settings of the multilayer perceptron."""

    name: Literal["mlp"] = "mlp"
    # What is subtracted from the pixels before they are divided by the channel's deviation: the
    # channel's mean, or the mean image. The latter is what PCA does, and what lets a linear
    # autoencoder converge. "none" leaves pixels in [0, 1], where a deep autoencoder of mostly black
    # images ends with a smaller error.
    centre: Literal["channel", "pixel", "none"] = "channel"
    # Outputs of the hidden layers, from the image inwards.
    widths: tuple[PositiveInt, ...] = (1000, 500, 250)
    # A last linear layer without activation, the bottleneck of an autoencoder; "none" leaves it out
    # and the last hidden layer gives the features.
    latent: PositiveInt | Literal["none"] = "none"
    activation: ActivationName = "relu"
    norm: NormName = "none"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # "original" scales at test instead of in training.
    dropout_kind: Literal["inverted", "original"] = "inverted"
    initialisation: Initialisation = "kaiming"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> MLP:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return MLP(self, image_shape, generator)

    def build_decoder(
        self, image_shape: ImageShape, num_features: int, output: str, generator: torch.Generator
    ) -> MLPDecoder:
        """The mirror image of the encoder, from features back to images."""
        return MLPDecoder(self, image_shape, num_features, output, generator)


def hidden_layer(config: MLPConfig, num_inputs: int, num_outputs: int) -> nn.Sequential:
    """Linear, norm, activation, dropout; layers that do nothing are left out."""
    widened = num_outputs * num_pieces(config.activation)
    bias = not without_bias(config.norm)
    layers: list[nn.Module] = [empty_linear(num_inputs, widened, bias=bias)]
    if config.norm != "none":
        layers.append(norm(config.norm, widened))
    layers.append(activation(config.activation))
    if config.dropout > 0:
        layers.append(dropout(config.dropout_kind, config.dropout))
    return nn.Sequential(*layers)


class MLP(Encoder):
    """Standardise, flatten, hidden layers, and a linear bottleneck where one is set."""

    def __init__(
        self, config: MLPConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape, config.centre)
        sizes = [channels * height * width, *config.widths]
        layers = [hidden_layer(config, inputs, outputs) for inputs, outputs in pairwise(sizes)]
        if config.latent != "none":
            layers.append(nn.Sequential(empty_linear(sizes[-1], config.latent)))
        self.layers = nn.ModuleList(layers)
        self.num_features = sizes[-1] if config.latent == "none" else config.latent
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        features: Tensor = self.standardise(images).flatten(1)
        for layer in self.layers:
            features = layer(features)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images)

    def stages(self) -> list[list[nn.Module]]:
        """One stage per layer, from input to output."""
        return [[layer] for layer in self.layers]


class MLPDecoder(nn.Module):
    """Features (B, D) to images (B, C, H, W) through the encoder's widths in reverse."""

    def __init__(
        self,
        config: MLPConfig,
        image_shape: ImageShape,
        num_features: int,
        output: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        # Without a bottleneck the features already are the last hidden layer.
        widths = config.widths if config.latent != "none" else config.widths[:-1]
        sizes = [num_features, *reversed(widths)]
        self.layers = nn.ModuleList(
            hidden_layer(config, inputs, outputs) for inputs, outputs in pairwise(sizes)
        )
        self.to_pixels = empty_linear(sizes[-1], channels * height * width)
        self.output = activation(output)
        initialise(self, config.initialisation, generator)
        initialise(self.to_pixels, "xavier", generator)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to images (B, C, H, W)."""
        for layer in self.layers:
            features = layer(features)
        pixels: Tensor = self.output(self.to_pixels(features))  # (B, C * H * W)
        return pixels.reshape(-1, *self.image_shape)
