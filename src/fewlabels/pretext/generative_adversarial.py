"""Generative adversarial network: one network draws, the other tells drawn from real."""

from __future__ import annotations

import copy
from operator import attrgetter
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from fewlabels.blocks.averaged import Averaged
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, ParameterGroup, StepResult
from fewlabels.pretext.objective import Generates, Pretext, differentiable_twice


@dataclass(frozen=True, kw_only=True, config=RULES)
class GenerativeAdversarialConfig:
    """Settings of the adversarial game."""

    num_views: ClassVar[int] = 1

    name: Literal["generative_adversarial"] = "generative_adversarial"
    latent: PositiveInt = 64
    # What the generator minimises: log(1 - D), the paper's "minimax", hardly has a gradient while
    # the discriminator is ahead; -log D, "non_saturating", has.
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    # Weight of the squared gradient at real images; it keeps the game from circling.
    r1: NonNegativeFloat = 1.0
    # In so many steps it is taken once, that much heavier.
    r1_every: PositiveInt = 4
    # Whether each layer of the discriminator is divided by its largest singular value.
    spectral_norm: bool = False
    # Of the discriminator, as a multiple of the generator's.
    discriminator_rate: PositiveFloat = 1.0
    # Of the average of the generator's weights that draws in the end, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)
    augmented: bool = False

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> GenerativeAdversarial:
        """The discriminator on the encoder; what draws is the encoder's mirror image."""
        drawer = network.build_decoder(encoder.image_shape, self.latent, "sigmoid", generator)
        return GenerativeAdversarial(self, encoder, drawer, generator)


class GenerativeAdversarial(Pretext, Generates):
    """``D: -log D(x) - log(1 - D(G(z))) + r1/2 · |dD/dx|²``, and ``G: -log D(G(z))``.

    Both take their step at the same time, each with its own optimiser: "generator" and
    "discriminator". The discriminator without its last layer is the encoder.

    Source: Generative Adversarial Nets (Goodfellow et al., 2014); the penalty R1 from Which
    Training Methods for GANs do actually Converge? (Mescheder et al., 2018), taken now and then as
    in StyleGAN2 (Karras et al., 2020); Spectral Normalization (Miyato et al., 2018).
    """

    # The losses of the two sides say who is ahead, not how good the images are.
    judges_unseen: ClassVar[bool] = False

    def __init__(
        self,
        config: GenerativeAdversarialConfig,
        encoder: Encoder,
        drawer: nn.Module,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = empty_linear(encoder.num_features, 1)
        initialise(self.head, "xavier", generator)
        self.drawer = drawer
        self.average = Averaged(drawer, config.decay)
        # In a tuple, so that it is no part of what is trained and saved.
        self._plain = (copy.deepcopy(encoder),)
        if config.spectral_norm:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(generator.initial_seed())
                for part in (self.encoder, self.head):
                    _normalise(part)

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """One optimiser for each side."""
        judging = [*self.encoder.parameters(), *self.head.parameters()]
        return {
            "generator": [ParameterGroup(name="generator", parameters=[*self.drawer.parameters()])],
            "discriminator": [
                ParameterGroup(
                    name="discriminator",
                    parameters=judging,
                    learning_rate_scale=self.config.discriminator_rate,
                )
            ],
        }

    def judge(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B,): above 0 for real."""
        logits: Tensor = self.head(self.encoder(images)).float().squeeze(1)
        return logits

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Both sides' losses, in one sum that hands each its own gradient."""
        drawn = self.drawer(self.latents(len(batch.images), batch.generator)).float()
        real, fake = self.judge(batch.images), self.judge(drawn.detach())
        discriminator = discriminator_loss(real, fake)
        # The generator's gradient passes through the discriminator, but must not change it.
        parts = (self.encoder, self.head)
        for part in parts:
            part.requires_grad_(False)
        generator = generator_loss(self.judge(drawn), self.config.loss)
        for part in parts:
            part.requires_grad_(True)
        logs = {
            "discriminator_loss": discriminator.detach(),
            "generator_loss": generator.detach(),
            "real_judged_real": (real > 0).float().mean(),
            "drawn_judged_real": (fake > 0).float().mean(),
        }
        loss = discriminator + generator
        if self.config.r1 > 0 and step % self.config.r1_every == 0 and torch.is_grad_enabled():
            images = batch.images.detach().requires_grad_()
            with differentiable_twice():
                penalty = squared_gradient(self.judge(images), images)
            loss = loss + 0.5 * self.config.r1 * self.config.r1_every * penalty
        return StepResult(loss, logs)

    def after_step(self, step: int) -> None:
        """Average what draws."""
        self.average.update(self.drawer, step)

    def latents(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Normal latents (B, L)."""
        device = self.head.bias.device
        return torch.randn(num_images, self.config.latent, generator=generator, device=device)

    def generate(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Drawn by the averaged weights."""
        drawn: Tensor = self.average(self.latents(num_images, generator))
        return drawn.float().clamp(0, 1)

    def finished_encoder(self) -> Encoder:
        """The discriminator's trunk, its weights divided once and for all."""
        if not self.config.spectral_norm:
            return self.encoder
        finished = copy.deepcopy(self._plain[0])
        divided = {name: attrgetter(name)(self.encoder) for name in finished.state_dict()}
        finished.load_state_dict(divided)
        return finished.train(self.encoder.training)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """``-mean log D(x) - mean log(1 - D(G(z)))`` of logits (B,)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, loss: str) -> Tensor:
    """``-mean log D(G(z))``, or for "minimax" ``mean log(1 - D(G(z)))``, of logits (B,)."""
    return F.softplus(-fake).mean() if loss == "non_saturating" else -F.softplus(fake).mean()


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """``mean |d logit / d image|²``, a scalar that can be differentiated again."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(dim=1).mean()


def _normalise(part: nn.Module) -> None:
    """Spectral norms on all linear layers and convolutions."""
    for module in [*part.modules()]:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            spectral_norm(module)
