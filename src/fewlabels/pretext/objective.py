"""What pretext objectives are, and what some of them can do beside teaching an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewlabels.contracts import Batch, Encoder, Objective


class Pretext(Objective, ABC):
    """An objective that teaches an encoder without labels.

    Attributes:
        config: its settings.
        encoder: what is kept when the training is over.
        judges_unseen: whether `held_out_loss` says anything.
    """

    judges_unseen: ClassVar[bool] = True

    config: Any
    encoder: Encoder

    def held_out_loss(self, batch: Batch) -> Tensor:
        """How well unseen images are dealt with, a scalar; no gradient is asked of it."""
        return self.loss(batch, 0).loss

    def finished_encoder(self) -> Encoder:
        """The encoder as its network's settings build it, without what was only for training."""
        return self.encoder


def differentiable_twice() -> AbstractContextManager[None]:
    """Within the block, gradients can be differentiated again; torch's fast attention cannot."""
    return sdpa_kernel(SDPBackend.MATH)


class Reconstructs(ABC):
    """Can draw an image that it is shown."""

    @abstractmethod
    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) in [0, 1], drawn anew from what is left of them; same shape."""


class HasLatents(ABC):
    """Keeps a few numbers of an image, from which it can be drawn.

    Attributes:
        num_latents: L.
        may_copy: whether so many latents as pixels could hold the image without learning anything.
    """

    may_copy: ClassVar[bool] = True

    num_latents: int

    @abstractmethod
    def to_latents(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to latents (B, L)."""

    @abstractmethod
    def from_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, L) to images (B, C, H, W) in [0, 1]."""


class Generates(ABC):
    """Can make images that nobody has taken."""

    @abstractmethod
    def generate(self, num_images: int, generator: torch.Generator) -> Tensor:
        """New images, float32 (B, C, H, W) in [0, 1], on the objective's device."""
