"""Variational autoencoder: latents that are drawn, close to a normal distribution."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.pretext.objective import Generates, HasLatents, Pretext, Reconstructs

ACTIVE = 0.01
"""Divergence in nats, mean over images, above which a latent counts as used."""


@dataclass(frozen=True, kw_only=True, config=RULES)
class VariationalAutoencoderConfig:
    """Settings of the variational autoencoder."""

    num_views: ClassVar[int] = 1

    name: Literal["variational_autoencoder"] = "variational_autoencoder"
    latent: PositiveInt = 20
    # "bernoulli" takes pixels for probabilities of being white, "gaussian" for means.
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    # Of a pixel around its mean, for "gaussian".
    deviation: PositiveFloat = 0.1
    # Weight of the divergence; above 1, latents are pressed to be independent (Higgins et al.,
    # 2017).
    beta: NonNegativeFloat = 1.0
    # Share of the epochs in which the weight rises from 0, so that latents are used before they are
    # paid for (Bowman et al., 2016).
    warmup: float = Field(default=0.1, ge=0.0, le=1.0)
    # Whether pixels are drawn as black or white anew in each step, as the literature's figures for
    # MNIST have it (Salakhutdinov and Murray, 2008).
    binarised: bool = False
    # What is drawn is what comes in, so distortions would be drawn, too.
    augmented: bool = False

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> VariationalAutoencoder:
        """The objective over an encoder; the decoder is its mirror image, from the latents."""
        decoder = network.build_decoder(encoder.image_shape, self.latent, "linear", generator)
        return VariationalAutoencoder(self, encoder, decoder, generator)


class VariationalAutoencoder(Pretext, Reconstructs, HasLatents, Generates):
    """``loss = E_q[-log p(x|z)] + beta · KL(q(z|x) || N(0, 1))`` in nats an image.

    q is a normal distribution whose means and deviations are linear in the encoder's features; z is
    drawn as mean + deviation · noise, so that the gradient reaches both.

    Source: Auto-Encoding Variational Bayes (Kingma and Welling, 2014).
    """

    def __init__(
        self,
        config: VariationalAutoencoderConfig,
        encoder: Encoder,
        decoder: nn.Module,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.decoder = decoder
        self.num_latents = config.latent
        self.to_posterior = empty_linear(encoder.num_features, 2 * config.latent)
        initialise(self.to_posterior, "xavier", generator)
        self.weight = config.beta

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances of q(z|x), float32 (B, L) each."""
        mean, log_variance = self.to_posterior(self.encoder(images)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-15, 15)

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Raise the divergence's weight."""
        rise = self.config.warmup * num_epochs
        self.weight = self.config.beta * (min(1.0, (epoch + 1) / (rise + 1)) if rise else 1.0)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The bound with the present weight, by one draw an image."""
        images = self.seen(batch)
        mean, log_variance = self.posterior(images)
        latents = reparameterised(mean, log_variance, batch.generator)
        surprise = self.surprise(latents, images).mean()
        divergences = divergence(mean, log_variance)  # (B, L)
        divergence_sum = divergences.sum(dim=1).mean()
        logs = {
            "surprise": surprise.detach(),
            "divergence": divergence_sum.detach(),
            "bound": (surprise + divergence_sum).detach(),
            "active_latents": (divergences.detach().mean(dim=0) > ACTIVE).float().sum(),
        }
        return StepResult(surprise + self.weight * divergence_sum, logs)

    def held_out_loss(self, batch: Batch) -> Tensor:
        """The negative evidence bound, in nats an image, whatever the weight is."""
        return self.negative_bound(self.seen(batch), batch.generator).mean()

    def seen(self, batch: Batch) -> Tensor:
        """The images of a batch, drawn black or white where that is asked for."""
        if not self.config.binarised:
            return batch.images
        return torch.bernoulli(batch.images, generator=batch.generator)

    def surprise(self, latents: Tensor, images: Tensor) -> Tensor:
        """``-log p(x|z)`` in nats, (B,), of latents (B, L) and images (B, C, H, W)."""
        drawn = self.decoder(latents).float()
        if self.config.likelihood == "bernoulli":
            terms = F.binary_cross_entropy_with_logits(drawn, images, reduction="none")
        else:
            deviation = self.config.deviation
            terms = 0.5 * ((images - drawn) / deviation).square()
            terms = terms + math.log(deviation * math.sqrt(2 * math.pi))
        return terms.flatten(1).sum(dim=1)

    def negative_bound(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """``-E_q[log p(x|z)] + KL`` in nats, (B,), by one draw an image."""
        mean, log_variance = self.posterior(images)
        surprise = self.surprise(reparameterised(mean, log_variance, generator), images)
        return surprise + divergence(mean, log_variance).sum(dim=1)

    def importance_weighted_bound(
        self, images: Tensor, generator: torch.Generator, num_draws: int
    ) -> Tensor:
        """``log mean_k p(x|z_k) p(z_k) / q(z_k|x)`` in nats, (B,): the tighter, the more draws.

        Source: Importance Weighted Autoencoders (Burda et al., 2016).
        """
        mean, log_variance = self.posterior(images)
        ratios = []
        for _ in range(num_draws):
            latents = reparameterised(mean, log_variance, generator)
            prior = log_normal(latents, torch.zeros_like(mean), torch.zeros_like(mean))
            ratio = prior - log_normal(latents, mean, log_variance)
            ratios.append(ratio.sum(dim=1) - self.surprise(latents, images))
        return torch.logsumexp(torch.stack(ratios), dim=0) - math.log(num_draws)

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) by way of the means of their latents."""
        return self.from_latents(self.to_latents(images))

    def to_latents(self, images: Tensor) -> Tensor:
        """The means, (B, L)."""
        return self.posterior(images)[0]

    def from_latents(self, latents: Tensor) -> Tensor:
        """The pixels' means."""
        drawn: Tensor = self.decoder(latents).float()
        means = drawn.sigmoid() if self.config.likelihood == "bernoulli" else drawn
        return means.clamp(0, 1)

    def generate(self, num_images: int, generator: torch.Generator) -> Tensor:
        """The pixels' means of latents from the normal distribution."""
        device = self.to_posterior.weight.device
        latents = torch.randn(num_images, self.num_latents, generator=generator, device=device)
        return self.from_latents(latents)


def reparameterised(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """``mean + deviation · noise``, (B, L)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, variance) || N(0, 1)) = (mean² + variance - log variance - 1) / 2``, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def log_normal(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of normal distributions, in nats, elementwise."""
    spread = (values - mean).square() * (-log_variance).exp()
    return -0.5 * (spread + log_variance + math.log(2 * math.pi))
