"""Contractive autoencoder: features that hardly move when the image does."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import Tensor

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.pretext.autoencoder import Autoencoder, reconstruction_error
from fewlabels.pretext.objective import differentiable_twice


@dataclass(frozen=True, kw_only=True, config=RULES)
class ContractiveAutoencoderConfig:
    """Settings of the contractive autoencoder."""

    num_views: ClassVar[int] = 1

    name: Literal["contractive_autoencoder"] = "contractive_autoencoder"
    loss: Literal["l1", "l2"] = "l2"
    output: Literal["linear", "sigmoid"] = "sigmoid"
    # Weight of the squared derivatives of the features, a mean over features and pixels.
    contraction: NonNegativeFloat = 0.1
    augmented: bool = False

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> ContractiveAutoencoder:
        """The objective over an encoder and the decoder that its settings mirror it by."""
        decoder = network.build_decoder(
            encoder.image_shape, encoder.num_features, self.output, generator
        )
        return ContractiveAutoencoder(self, encoder, decoder)


class ContractiveAutoencoder(Autoencoder):
    """``reconstruction error + weight · |df/dx|² / (D · pixels)``.

    The squared length of the derivative is estimated without bias by one random direction an image:
    ``E |vᵀ df/dx|² = |df/dx|²`` for normal v (Hutchinson, 1990).

    Source: Contractive Auto-Encoders (Rifai et al., 2011).
    """

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The reconstruction error and what the derivative adds."""
        images = batch.images.detach().requires_grad_()
        with differentiable_twice():
            features = self.encoder(images)
        error = reconstruction_error(self.decoder(features), batch.clean, self.config.loss)
        slope = squared_slope(features, images, batch.generator)
        logs = {"reconstruction": error.detach(), "slope": slope.detach()}
        return StepResult(error + self.config.contraction * slope, logs)


def squared_slope(features: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
    """An estimate of ``|df/dx|²`` over features and pixels, the mean over images; a scalar.

    Args:
        features: (B, D), computed from `images`.
        images: (B, C, H, W), with a gradient asked for.
        generator: of the directions.
    """
    directions = torch.randn(features.shape, generator=generator, device=features.device)
    (pulled,) = torch.autograd.grad(
        (features.float() * directions).sum(), images, create_graph=True
    )
    return pulled.float().square().sum() / (features.numel() * images[0].numel())
