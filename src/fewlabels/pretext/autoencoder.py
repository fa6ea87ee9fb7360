"""Autoencoder: encode, decode, compare with the image."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.pretext.objective import HasLatents, Pretext, Reconstructs


@dataclass(frozen=True, kw_only=True, config=RULES)
class AutoencoderConfig:
    """Settings of the autoencoder."""

    num_views: ClassVar[int] = 1

    name: Literal["autoencoder"] = "autoencoder"
    loss: Literal["l1", "l2"] = "l2"
    # What the decoder ends in; "sigmoid" keeps pixels in [0, 1], "linear" is PCA's setting.
    output: Literal["linear", "sigmoid"] = "sigmoid"
    # What the output is compared with: the image before or after augmentation. "clean" makes the
    # features forget the distortion, "augmented" makes them describe it.
    target: Literal["clean", "augmented"] = "clean"
    # Whether the encoder sees augmented images while it learns to draw.
    augmented: bool = True

    def build(self, encoder: Encoder, network: Any, generator: torch.Generator) -> Autoencoder:
        """The objective over an encoder and the decoder that its settings mirror it by."""
        decoder: nn.Module = network.build_decoder(
            encoder.image_shape, encoder.num_features, self.output, generator
        )
        return Autoencoder(self, encoder, decoder)


class Autoencoder(Pretext, Reconstructs, HasLatents):
    """``loss = mean |x - g(f(x))|^p`` per pixel, p = 1 or 2.

    Source: Reducing the Dimensionality of Data with Neural Networks (Hinton and Salakhutdinov,
    2006).

    Args:
        config: with `loss`, and where there is one, `target`.
        encoder: f.
        decoder: g.
    """

    def __init__(self, config: Any, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.decoder = decoder
        self.num_latents = encoder.num_features

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions of images (B, C, H, W) in [0, 1], same shape."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean error per pixel."""
        target = batch.clean if self.config.target == "clean" else batch.images
        return StepResult(reconstruction_error(self(batch.images), target, self.config.loss))

    def held_out_loss(self, batch: Batch) -> Tensor:
        """Mean squared error per pixel of the images as they are, to be compared with PCA's."""
        return reconstruction_error(self(batch.clean).clamp(0, 1), batch.clean)

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) through encoder and decoder."""
        shown: Tensor = self(images).clamp(0, 1)
        return shown

    def to_latents(self, images: Tensor) -> Tensor:
        """The features."""
        latents: Tensor = self.encoder(images)
        return latents

    def from_latents(self, latents: Tensor) -> Tensor:
        """The decoder's drawing of features (B, D)."""
        drawn: Tensor = self.decoder(latents).clamp(0, 1)
        return drawn


def reconstruction_error(reconstructions: Tensor, images: Tensor, loss: str = "l2") -> Tensor:
    """Mean absolute ("l1") or squared ("l2") error per pixel, a float32 scalar."""
    if loss == "l1":
        return F.l1_loss(reconstructions.float(), images)
    return F.mse_loss(reconstructions.float(), images)
