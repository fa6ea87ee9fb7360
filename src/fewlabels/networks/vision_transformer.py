"""Vision transformer: patches that attend to each other."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.attention import (
    LearntPositions,
    MultiHeadAttention,
    SinusoidalPositions,
)
from fewlabels.blocks.dropout import StochasticDepth
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import DecodedConfig
from fewlabels.networks.patches import Patches


@dataclass(frozen=True, kw_only=True, config=RULES)
class VisionTransformerConfig(DecodedConfig):
    """Settings of the vision transformer.

    Patches of 16, width 768, 12 layers with 12 heads, hidden 4 and pool "token" are ViT-B/16.
    """

    name: Literal["vision_transformer"] = "vision_transformer"
    # Side of a patch in pixels.
    patch: PositiveInt | Literal["auto"] = "auto"
    # Features of a token.
    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    # Units between the two layers of each block, as a multiple of the width.
    hidden: PositiveInt = 2
    # What is given out: the mean of all tokens, or a token of its own that attends to them.
    pool: Literal["mean", "token"] = "mean"
    positions: Literal["learnt", "sinusoidal"] = "learnt"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # Probability that the last block is left out; it grows linearly to there.
    stochastic_depth: float = Field(default=0.0, ge=0.0, lt=1.0)
    initialisation: Literal["xavier"] = "xavier"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> VisionTransformer:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return VisionTransformer(self, image_shape, generator)


class TransformerBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + layers(norm(x))``.

    Args:
        width: D.
        heads: of the attention.
        hidden: units between the two layers, as a multiple of the width.
        dropout: probability.
        left_out: probability that the block is left out.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float = 0.0, left_out: float = 0.0
    ) -> None:
        super().__init__()
        self.attend = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            MultiHeadAttention(width, heads),
            nn.Dropout(dropout),
            StochasticDepth(left_out),
        )
        self.think = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            empty_linear(width, width * hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            empty_linear(width * hidden, width),
            nn.Dropout(dropout),
            StochasticDepth(left_out),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to the same shape."""
        tokens = tokens + self.attend(tokens)
        thought: Tensor = tokens + self.think(tokens)
        return thought


class VisionTransformer(Encoder):
    """Patches, positions, blocks, a last norm.

    Source: An Image is Worth 16x16 Words (Dosovitskiy et al., 2021); the mean in place of the
    token from Better Plain ViT Baselines (Beyer et al., 2022).
    """

    def __init__(
        self,
        config: VisionTransformerConfig,
        image_shape: ImageShape,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_features = config.width
        self.standardise = Standardise(image_shape)
        self.patches = Patches(image_shape, config.width, config.patch)
        self.token = _Token(config.width) if config.pool == "token" else None
        count = self.patches.num_patches + (self.token is not None)
        self.positions = (
            LearntPositions(count, config.width, generator)
            if config.positions == "learnt"
            else SinusoidalPositions(count, config.width)
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(
                config.width,
                config.heads,
                config.hidden,
                config.dropout,
                config.stochastic_depth * number / max(1, config.depth - 1),
            )
            for number in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        initialise(self, config.initialisation, generator)

    def to_tokens(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to tokens with positions, before the first block."""
        tokens = self.patches(self.standardise(images))
        if self.token is not None:
            tokens = self.token(tokens)
        placed: Tensor = self.positions(tokens)
        return placed

    def from_tokens(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens through the blocks.

        Args:
            tokens: (B, T, D), from `to_tokens`.
            visible: int64 (B, V), the patches that are looked at; None for all.

        Returns:
            (B, T, D), or (B, V, D) of the visible patches.
        """
        leading = tokens.shape[1] - self.patches.num_patches
        if visible is not None:
            places = (visible + leading).unsqueeze(2).expand(-1, -1, tokens.shape[2])
            tokens = torch.cat([tokens[:, :leading], tokens.gather(1, places)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed if visible is None else normed[:, leading:]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to tokens (B, T, D)."""
        return self.from_tokens(self.to_tokens(images))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        tokens = self.forward_features(images)
        return tokens.mean(dim=1) if self.token is None else tokens[:, 0]

    def stages(self) -> list[list[nn.Module]]:
        """The patches, then one stage a block; the last norm belongs to the last one."""
        token = [] if self.token is None else [self.token]
        groups: list[list[nn.Module]] = [[self.patches, *token, self.positions]]
        groups += [[block] for block in self.blocks]
        groups[-1].append(self.norm)
        return groups


class _Token(nn.Module):
    """Puts a learnt token before the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to (B, 1 + T, D)."""
        return torch.cat([self.vector.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
