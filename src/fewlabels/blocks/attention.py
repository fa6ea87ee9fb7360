"""Attention between tokens (B, T, D), and what tells them where they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_linear
from fewlabels.errors import ConfigError


class MultiHeadAttention(nn.Module):
    """``softmax(Q Kᵀ / √d) V`` in several heads beside each other, by torch's own kernel.

    Source: Attention Is All You Need (Vaswani et al., 2017).

    Args:
        num_features: D, of each token.
        num_heads: divides D.
        dropout: probability that a token does not see another one, in training.
    """

    def __init__(self, num_features: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_features % num_heads:
            raise ConfigError(
                f"The {num_features} features of a token cannot be shared by {num_heads} heads. "
                "Choose a number of heads that divides them."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_key_value = empty_linear(num_features, 3 * num_features)
        self.output = empty_linear(num_features, num_features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to the same shape."""
        parts = self.query_key_value(tokens).unflatten(2, (3, self.num_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return mixed


def sinusoidal_positions(num_tokens: int, num_features: int) -> Tensor:
    """``sin(t / 10000^(2i / D))`` in the even columns, the cosine in the odd ones; (T, D).

    Source: Attention Is All You Need (Vaswani et al., 2017).
    """
    half = math.ceil(num_features / 2)
    rates = 10_000.0 ** (-torch.arange(half) * 2 / num_features)
    angles = torch.arange(num_tokens).view(-1, 1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :num_features]


class LearntPositions(nn.Module):
    """Adds a vector of its own to each of the `num_tokens` tokens, learnt; it starts at zero mean.

    Source: as in An Image is Worth 16x16 Words (Dosovitskiy et al., 2021).
    """

    def __init__(self, num_tokens: int, num_features: int, generator: torch.Generator) -> None:
        super().__init__()
        start = 0.02 * torch.randn(num_tokens, num_features, generator=generator)
        self.positions = nn.Parameter(start)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to the same shape."""
        return tokens + self.positions


class SinusoidalPositions(nn.Module):
    """Adds `sinusoidal_positions` to the tokens; nothing is learnt."""

    positions: Tensor

    def __init__(self, num_tokens: int, num_features: int) -> None:
        super().__init__()
        positions = sinusoidal_positions(num_tokens, num_features)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) to the same shape."""
        return tokens + self.positions.to(tokens.dtype)
