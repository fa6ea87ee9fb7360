"""Denoising autoencoder: draw the image from a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_convolution, empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.errors import ConfigError
from fewlabels.pretext.autoencoder import Autoencoder, reconstruction_error

Corruption = Literal["masking", "gaussian", "salt_and_pepper"]


@dataclass(frozen=True, kw_only=True, config=RULES)
class DenoisingAutoencoderConfig:
    """Settings of the denoising autoencoder."""

    num_views: ClassVar[int] = 1

    name: Literal["denoising_autoencoder"] = "denoising_autoencoder"
    loss: Literal["l1", "l2"] = "l2"
    output: Literal["linear", "sigmoid"] = "sigmoid"
    # "masking" sets values to 0, "salt_and_pepper" to 0 or 1, "gaussian" adds noise.
    corruption: Corruption = "masking"
    # Share of the values, or the noise's deviation, pixels being in [0, 1].
    amount: float = Field(default=0.75, ge=0.0, le=1.0)
    # One stage of the network after the other, each denoising what the one before gives out, in
    # equal shares of the epochs; else all at once.
    stacked: bool = False
    augmented: bool = False

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> DenoisingAutoencoder:
        """The objective over an encoder and the decoder that its settings mirror it by."""
        if self.corruption != "gaussian" and self.amount == 1:
            raise ConfigError(
                "`pretext.amount` of 1 leaves nothing of the image to draw it from. Choose a share "
                "below 1, for example 0.75."
            )
        decoder: nn.Module = network.build_decoder(
            encoder.image_shape, encoder.num_features, self.output, generator
        )
        if self.stacked:
            return StackedDenoisingAutoencoder(self, encoder, decoder, generator)
        return DenoisingAutoencoder(self, encoder, decoder)


class DenoisingAutoencoder(Autoencoder):
    """``loss = mean |x - g(f(corrupt(x)))|^p`` per pixel, p = 1 or 2.

    Source: Extracting and Composing Robust Features with Denoising Autoencoders (Vincent et al.,
    2008).
    """

    may_copy: ClassVar[bool] = False

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean error per pixel against the undamaged images."""
        damaged = self.damage(batch.images, batch.generator)
        return StepResult(reconstruction_error(self(damaged), batch.clean, self.config.loss))

    def damage(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A damaged copy."""
        return corrupt(images, self.config.corruption, self.config.amount, generator)


def corrupt(values: Tensor, corruption: str, amount: float, generator: torch.Generator) -> Tensor:
    """A damaged copy of values; see `DenoisingAutoencoderConfig`."""
    if corruption == "gaussian":
        noise = torch.randn(values.shape, generator=generator, device=values.device)
        return values + amount * noise
    draw = torch.rand(values.shape, generator=generator, device=values.device)
    kept = values * (draw >= amount)
    if corruption == "masking":
        return kept
    return kept + (draw < amount / 2)  # half of the struck ones are white


class StackedDenoisingAutoencoder(DenoisingAutoencoder):
    """One stage at a time: ``mean (h_{k-1} - d_k(f_k(corrupt(h_{k-1}))))²``, h_0 being the image.

    The last share of the epochs trains the whole, as the paper's fine-tuning does, but still
    without labels. Each d_k is one layer, thrown away.

    Source: Stacked Denoising Autoencoders (Vincent et al., 2010).
    """

    def __init__(
        self, config: Any, encoder: Encoder, decoder: nn.Module, generator: torch.Generator
    ) -> None:
        super().__init__(config, encoder, decoder)
        self.depth = 0
        stages = encoder.stages()
        if any(len(stage) != 1 for stage in stages):
            raise ConfigError(
                "`pretext.stacked` trains stage after stage, which needs a network whose stages "
                f"are one part each; those of {type(encoder).__name__} are not. Use mlp, or "
                "pretext.stacked=false."
            )
        images = torch.zeros(2, *encoder.image_shape)
        was_training = encoder.training
        encoder.eval()
        with torch.no_grad(), self._seen() as seen:
            encoder(images)
        encoder.train(was_training)
        self.back = nn.ModuleList(
            _way_back(output.shape, given.shape, generator) for given, output in seen
        )

    @contextmanager
    def _seen(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Within the block, what goes into each stage and comes out of it."""
        seen: list[tuple[Tensor, Tensor]] = []
        handles = [
            stage[0].register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
            for stage in self.encoder.stages()
        ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Choose the stage; all of them come before the whole."""
        self.depth = epoch * (len(self.back) + 1) // num_epochs

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The present stage's error, or in the end that of the whole."""
        if self.depth == len(self.back):
            return super().loss(batch, step)
        with torch.no_grad(), self._seen() as seen:
            self.encoder(batch.images)
        given = seen[self.depth][0]
        # Values inside the network are not in [0, 1], so noise is measured in their own deviation.
        scale = 1.0 if self.config.corruption == "masking" else float(given.float().std())
        damaged = corrupt(
            given.float() / scale, self.config.corruption, self.config.amount, batch.generator
        )
        (stage,) = self.encoder.stages()[self.depth]
        drawn = self.back[self.depth](stage((damaged * scale).to(given.dtype)))
        return StepResult(F.mse_loss(drawn.float(), given.float()))


def _way_back(output: torch.Size, given: torch.Size, generator: torch.Generator) -> nn.Module:
    """One layer from a stage's output back to its input."""
    layers: nn.Module
    if len(output) == len(given) == 2:
        layers = empty_linear(output[1], given[1])
    elif len(output) == len(given) == 4:
        layers = nn.Sequential(
            nn.Upsample(size=tuple(given[2:])), empty_convolution(output[1], given[1], 3, padding=1)
        )
    else:
        layers = nn.Sequential(
            nn.Flatten(),
            empty_linear(output[1:].numel(), given[1:].numel()),
            nn.Unflatten(1, given[1:]),
        )
    initialise(layers, "xavier", generator)
    return layers
