"""An encoder with a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.blocks.norms import norm
from fewlabels.contracts import Encoder

FULLY_CONNECTED_PARTS = (
    nn.Linear,
    nn.BatchNorm1d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.PReLU,
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
)


class Classifier(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, K).

    Attributes:
        encoder: images to features.
        head: features to logits.
        logit_norm: of the logits, so that no class can take all images of a batch; may do nothing.
        logit_norm_name: its name.

    Args:
        encoder: images to features.
        num_classes: K.
        generator: of the head's weights.
        logit_norm: name of the norm over the logits.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        generator: torch.Generator,
        logit_norm: str = "none",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = empty_linear(encoder.num_features, num_classes)
        self.logit_norm_name = logit_norm
        self.logit_norm = norm(logit_norm, num_classes)
        self.reset_head(generator)

    def reset_head(self, generator: torch.Generator) -> None:
        """Draw the head's weights anew."""
        initialise(self.head, "xavier", generator)

    def head_parameters(self) -> list[nn.Parameter]:
        """All that comes after the encoder."""
        return [*self.head.parameters(), *self.logit_norm.parameters()]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, K)."""
        logits: Tensor = self.logit_norm(self.head(self.encoder(images)))
        return logits


def num_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def is_fully_connected(module: nn.Module) -> bool:
    """Whether fully connected layers are the only ones with weights across pixels.

    Allowed beside them are norms over vectors, activations, dropout, and the standardising of
    pixels. Convolutions, attention and recurrence are not.
    """
    # A part may hold weights of its own beside its children, as attention does.
    with_weights = [part for part in module.modules() if list(part.parameters(recurse=False))]
    return all(isinstance(part, FULLY_CONNECTED_PARTS) for part in with_weights)
