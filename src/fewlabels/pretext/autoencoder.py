"""Autoencoder: encode, decode, compare with the image."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, Objective, StepResult


@dataclass(frozen=True, kw_only=True, config=RULES)
class AutoencoderConfig:
    """Settings of the autoencoder; with masking or noise it is a denoising autoencoder."""

    num_views: ClassVar[int] = 1
    draws: ClassVar[bool] = True

    name: Literal["autoencoder"] = "autoencoder"
    loss: Literal["l1", "l2"] = "l2"
    # What the decoder ends in; "sigmoid" keeps pixels in [0, 1], "linear" is PCA's setting.
    output: Literal["linear", "sigmoid"] = "sigmoid"
    # Share of the pixel values set to zero before encoding (Vincent et al., 2008).
    mask: float = Field(default=0.0, ge=0.0, lt=1.0)
    # Deviation of Gaussian noise added before encoding, pixels being in [0, 1].
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
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


class Autoencoder(Objective):
    """``loss = mean |x - g(f(corrupt(x)))|^p`` per pixel, p = 1 or 2.

    Source: Reducing the Dimensionality of Data with Neural Networks (Hinton and Salakhutdinov,
    2006); with masking or noise, Extracting and Composing Robust Features with Denoising
    Autoencoders (Vincent et al., 2008).
    """

    def __init__(self, config: AutoencoderConfig, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions of images (B, C, H, W) in [0, 1], same shape."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions

    def corrupt(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mask pixels and add noise as configured; a copy, or the images where there is nothing."""
        if self.config.mask > 0:
            draw = torch.rand(images.shape, generator=generator, device=images.device)
            images = images * (draw >= self.config.mask)
        if self.config.noise > 0:
            normal = torch.randn(images.shape, generator=generator, device=images.device)
            images = images + self.config.noise * normal
        return images

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean error per pixel against the uncorrupted images."""
        target = batch.clean if self.config.target == "clean" else batch.images
        reconstructions = self(self.corrupt(batch.images, batch.generator)).float()
        return StepResult(reconstruction_error(reconstructions, target, self.config.loss))


def reconstruction_error(reconstructions: Tensor, images: Tensor, loss: str = "l2") -> Tensor:
    """Mean absolute ("l1") or squared ("l2") error per pixel, a scalar."""
    if loss == "l1":
        return F.l1_loss(reconstructions, images)
    return F.mse_loss(reconstructions, images)
