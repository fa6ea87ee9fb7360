"""Diffusion model: noise is taken away step by step until an image is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.attention import sinusoidal_positions
from fewlabels.blocks.averaged import Averaged
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, ParameterGroup, StepResult
from fewlabels.errors import ConfigError
from fewlabels.networks.unet import UNet
from fewlabels.pretext.objective import Generates, Pretext

Schedule = Literal["cosine", "linear"]


@dataclass(frozen=True, kw_only=True, config=RULES)
class DiffusionConfig:
    """Settings of the diffusion model."""

    num_views: ClassVar[int] = 1

    name: Literal["diffusion"] = "diffusion"
    # How fast the image disappears; "linear" is the first paper's, made for larger images.
    schedule: Schedule = "cosine"
    # T, steps from an image to noise.
    steps: PositiveInt = 1000
    # Steps back, of which each takes several at once, and how much noise each brings in again: 0 is
    # DDIM, 1 DDPM.
    sampling_steps: PositiveInt = 50
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    # Units of the layers that tell the network the time.
    time_width: PositiveInt = 128
    # Of the average of weights that draws in the end, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)
    augmented: bool = False

    def build(self, encoder: Encoder, network: Any, generator: torch.Generator) -> Diffusion:
        """The noise predictor over a U-Net.

        Raises:
            ConfigError: another network, or more steps back than there are.
        """
        if not isinstance(encoder, UNet):
            raise ConfigError(
                "A diffusion model draws with a U-Net. Use --set network.name=unet, or another "
                f"objective than diffusion for {network.name}."
            )
        if self.sampling_steps > self.steps:
            raise ConfigError(
                f"`pretext.sampling_steps` must be at most `pretext.steps`, {self.steps}. Got "
                f"{self.sampling_steps}."
            )
        up = network.build_dense(encoder, encoder.image_shape[0], generator)
        return Diffusion(self, NoisePredictor(self, encoder, up, generator))


class NoisePredictor(nn.Module):
    """A U-Net that is told the time.

    The time's sines and cosines pass two layers and are added to the maps of each level; what they
    would be at time 0, where there is no noise, is taken off. So the way down alone is the network
    at time 0, and can be used as an encoder.

    Args:
        config: of the objective.
        encoder: the way down.
        up: the way up.
        generator: of the time's layers.
    """

    def __init__(
        self, config: DiffusionConfig, encoder: UNet, up: nn.Module, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.up = up
        self.embedding = sinusoidal_positions(config.steps + 1, config.time_width)
        width = config.time_width
        self.clock = nn.Sequential(
            empty_linear(width, width), nn.SiLU(), empty_linear(width, width)
        )
        self.sizes = [*encoder.widths, *reversed(encoder.widths[:-1])]
        self.to_shifts = empty_linear(width, sum(self.sizes), bias=False)
        for part in (self.clock, self.to_shifts):
            initialise(part, "xavier", generator)

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        """The noise in noisy images.

        Args:
            images: (B, C, H, W), around [0, 1].
            times: int64 (B,), steps of noise, 0 for none.
        """
        known = self.embedding.to(images.device)
        told = self.clock(known[times]) - self.clock(known[:1])
        shifts = self.to_shifts(F.silu(told)).split(self.sizes, dim=1)
        levels = len(self.encoder.widths)
        maps = self.encoder.levels(images, shifts[:levels])
        noise: Tensor = self.up(maps, shifts[levels:])
        return noise


class Diffusion(Pretext, Generates):
    """``loss = mean |noise - predicted(√ā_t x + √(1 - ā_t) noise, t)|²``, t uniform, x in [-1, 1].

    Source: Denoising Diffusion Probabilistic Models (Ho et al., 2020); the cosine schedule from
    Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021); few steps back
    from Denoising Diffusion Implicit Models (Song et al., 2021).
    """

    def __init__(self, config: DiffusionConfig, predictor: NoisePredictor) -> None:
        super().__init__()
        self.config = config
        self.predictor = predictor
        self.average = Averaged(predictor, config.decay)
        self.kept = image_shares(config.schedule, config.steps)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The way down."""
        return self.predictor.encoder

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """All but the average."""
        learnt = list(self.predictor.parameters())
        return {"main": [ParameterGroup(name="predictor", parameters=learnt)]}

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean squared error of the noise, at one time an image."""
        return StepResult(self._error(self.predictor, batch))

    def held_out_loss(self, batch: Batch) -> Tensor:
        """The average's error, at one time an image."""
        return self._error(self.average.network, batch)

    def _error(self, predictor: nn.Module, batch: Batch) -> Tensor:
        images, generator = batch.images, batch.generator
        times = torch.randint(
            1, self.config.steps + 1, (len(images),), generator=generator, device=images.device
        )
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        noisy = self.noisy(2 * images - 1, noise, times)
        return F.mse_loss(predictor((noisy + 1) / 2, times).float(), noise)

    def noisy(self, images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """``√ā_t x + √(1 - ā_t) noise``: all t steps at once; images (B, C, H, W) in [-1, 1]."""
        kept = self.kept.to(images.device)[times].view(-1, 1, 1, 1)
        return kept.sqrt() * images + (1 - kept).sqrt() * noise

    def after_step(self, step: int) -> None:
        """Average the predictor."""
        self.average.update(self.predictor, step)

    def generate(self, num_images: int, generator: torch.Generator) -> Tensor:
        """From noise to images, by the averaged predictor."""
        *_, last = self.denoised(num_images, generator)
        return last

    def denoised(self, num_images: int, generator: torch.Generator) -> Iterator[Tensor]:
        """What the images look like from step to step, in [0, 1], from noise to the finished ones.

        Step from time t to s: ``x_s = √ā_s x̂ + √(1 - ā_s - σ²) ε̂ + σ noise``, with ε̂ the predicted
        noise, x̂ the image that it leaves, and
        ``σ = noise · √((1 - ā_s) / (1 - ā_t)) · √(1 - ā_t / ā_s)``.
        """
        config, kept = self.config, self.kept
        device = self.predictor.to_shifts.weight.device
        shape = (num_images, *self.encoder.image_shape)
        images = torch.randn(shape, generator=generator, device=device)
        yield ((images + 1) / 2).clamp(0, 1)
        times = torch.linspace(config.steps, 0, config.sampling_steps + 1).round().long().tolist()
        for now, then in pairwise(times):
            at = torch.full((num_images,), now, device=device)
            noise = self.average.network((images + 1) / 2, at).float()
            here, there = float(kept[now]), float(kept[then])
            clean = (images - math.sqrt(1 - here) * noise) / math.sqrt(here)
            clean = clean.clamp(-1, 1)
            noise = (images - math.sqrt(here) * clean) / math.sqrt(1 - here)
            sigma = math.sqrt((1 - there) / (1 - here)) * math.sqrt(max(0.0, 1 - here / there))
            sigma *= config.noise
            fresh = torch.randn(shape, generator=generator, device=device) if sigma else 0.0
            images = math.sqrt(there) * clean + sigma * fresh
            images = images + math.sqrt(max(0.0, 1 - there - sigma**2)) * noise
            yield ((images + 1) / 2).clamp(0, 1)


def image_shares(schedule: str, steps: int) -> Tensor:
    """ā: the share of the image's variance that is left after 0, 1, … T steps, float32 (T + 1,).

    "linear": the noise of a step grows linearly from 0.0001 to 0.02 of the variance where T is
    1000 (Ho et al., 2020), and as much in all for another T. "cosine": ``cos²((t/T + s) / (1 + s) ·
    π/2)``, normed to 1 at 0, s = 0.008 (Nichol and Dhariwal, 2021).
    """
    if schedule == "linear":
        scale = 1000 / steps
        added = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
    else:
        offset = 0.008
        at = torch.arange(steps + 1, dtype=torch.float64) / steps
        curve = ((at + offset) / (1 + offset) * math.pi / 2).cos().square()
        added = 1 - curve[1:] / curve[:-1]
    kept = (1 - added.clamp(max=0.999)).cumprod(dim=0)
    return torch.cat([torch.ones(1, dtype=torch.float64), kept]).float()
