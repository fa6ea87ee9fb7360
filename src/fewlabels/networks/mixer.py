"""MLP-Mixer: patches mixed by fully connected layers, in turns across places and features."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import DecodedConfig
from fewlabels.networks.patches import Patches


@dataclass(frozen=True, kw_only=True, config=RULES)
class MixerConfig(DecodedConfig):
    """Settings of the mixer; patches of 16, width 512, depth 8, 256 and 2,048 units are S/16."""

    name: Literal["mixer"] = "mixer"
    # Side of a patch in pixels.
    patch: PositiveInt | Literal["auto"] = "auto"
    # Features of a patch.
    width: PositiveInt = 128
    depth: PositiveInt = 4
    # Units between the two layers that mix places, and between those that mix features.
    units: tuple[PositiveInt, PositiveInt] = (64, 256)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    initialisation: Literal["xavier"] = "xavier"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> Mixer:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return Mixer(self, image_shape, generator)


def _layers(width: int, units: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        empty_linear(width, units), nn.GELU(), empty_linear(units, width), nn.Dropout(dropout)
    )


class Block(nn.Module):
    """``x + places(norm(x)ᵀ)ᵀ``, then ``x + features(norm(x))``."""

    def __init__(self, config: MixerConfig, num_patches: int) -> None:
        super().__init__()
        self.before_places = nn.LayerNorm(config.width, eps=1e-6)
        self.places = _layers(num_patches, config.units[0], config.dropout)
        self.before_features = nn.LayerNorm(config.width, eps=1e-6)
        self.features = _layers(config.width, config.units[1], config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to the same shape."""
        tokens = tokens + self.places(self.before_places(tokens).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = tokens + self.features(self.before_features(tokens))
        return mixed


class Mixer(Encoder):
    """Patches, blocks, a last norm, and the mean of the patches.

    It has no layer but fully connected ones, yet all patches share theirs, which is what a
    convolution does: so it does not count as fully connected (see `is_fully_connected`).

    Source: MLP-Mixer (Tolstikhin et al., 2021).
    """

    def __init__(
        self, config: MixerConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_features = config.width
        self.standardise = Standardise(image_shape)
        self.patches = Patches(image_shape, config.width, config.patch)
        self.blocks = nn.ModuleList(
            Block(config, self.patches.num_patches) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to tokens (B, T, D)."""
        tokens = self.patches(self.standardise(images))
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=1)

    def stages(self) -> list[list[nn.Module]]:
        """The patches, then one stage a block; the last norm belongs to the last one."""
        groups: list[list[nn.Module]] = [[self.patches], *[[block] for block in self.blocks]]
        groups[-1].append(self.norm)
        return groups
