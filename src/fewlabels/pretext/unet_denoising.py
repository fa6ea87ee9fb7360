"""Denoising with a way up of the network's own, which carries the large maps across."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.errors import ConfigError
from fewlabels.pretext.autoencoder import reconstruction_error
from fewlabels.pretext.denoising_autoencoder import corrupt
from fewlabels.pretext.objective import Pretext, Reconstructs


@dataclass(frozen=True, kw_only=True, config=RULES)
class UNetDenoisingConfig:
    """Settings of denoising with skip connections."""

    num_views: ClassVar[int] = 1

    name: Literal["unet_denoising"] = "unet_denoising"
    loss: Literal["l1", "l2"] = "l2"
    corruption: Literal["masking", "gaussian", "salt_and_pepper"] = "gaussian"
    # The noise's deviation, pixels being in [0, 1], or the share of values that are struck. With
    # little of it the large maps alone do the job, and the lowest ones learn nothing.
    amount: PositiveFloat = 0.5
    augmented: bool = True

    def build(self, encoder: Encoder, network: Any, generator: torch.Generator) -> UNetDenoising:
        """The objective over an encoder that has a way up.

        Raises:
            ConfigError: it has none, or nothing would be left of the images.
        """
        if not hasattr(network, "build_dense"):
            raise ConfigError(
                f"The network {network.name} has no way up of its own. Use unet, segnet or fcn, or "
                "the objective denoising_autoencoder."
            )
        if self.corruption != "gaussian" and self.amount >= 1:
            raise ConfigError(
                f"`pretext.amount` must be below 1 for {self.corruption}, or nothing is left of an "
                f"image. Got {self.amount}."
            )
        up = network.build_dense(encoder, encoder.image_shape[0], generator)
        return UNetDenoising(self, encoder, up)


class UNetDenoising(Pretext, Reconstructs):
    """``loss = mean |x - up(down(corrupt(x)))|^p`` per pixel, p = 1 or 2.

    Source: the network of U-Net (Ronneberger et al., 2015), the task of Extracting and Composing
    Robust Features with Denoising Autoencoders (Vincent et al., 2008).
    """

    def __init__(self, config: UNetDenoisingConfig, encoder: Any, up: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.up = up

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean error per pixel against the undamaged images."""
        drawn = self.cleaned(batch.images, batch.generator)
        return StepResult(reconstruction_error(drawn, batch.images, self.config.loss))

    def cleaned(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W), damaged and drawn anew."""
        encoder: Any = self.encoder
        damaged = corrupt(images, self.config.corruption, self.config.amount, generator)
        drawn: Tensor = self.up(encoder.levels(damaged))
        return drawn.float()

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W), damaged and drawn anew, in [0, 1]."""
        return self.cleaned(images, generator).clamp(0, 1)
