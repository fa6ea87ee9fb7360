"""Ladder network: denoise every layer of the classifier beside learning from labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, StepResult
from fewlabels.errors import ConfigError
from fewlabels.networks.classifier import Classifier
from fewlabels.randomness import generator
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.objective import (
    Task,
    View,
    unlabelled_part,
    untracked,
)

_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True, config=RULES)
class LadderConfig:
    """Settings of the ladder network."""

    views: ClassVar[tuple[View, ...]] = ("usual",)

    name: Literal["ladder"] = "ladder"
    # "full" denoises all layers of a fully connected encoder with batch norm, "gamma" the logits
    # alone, of any encoder.
    kind: Literal["full", "gamma"] = "full"
    # Deviation of the noise on the pixels, which are in [0, 1], and on every normalised layer.
    noise: NonNegativeFloat = 0.3
    # Weight of the denoising error of the pixels, of the first layer, and so on; the last one also
    # holds for all further layers and the logits.
    costs: tuple[NonNegativeFloat, ...] = Field(default=(1000.0, 10.0, 0.1), min_length=1)
    # Of the averaged network that predicts, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> Ladder:
        """The objective for a task.

        Raises:
            ConfigError: the logits have no batch norm; or "full", and the encoder has none or has
                layers that are not fully connected.
        """
        return Ladder(self, task)


class Ladder(AveragedPredictor):
    """``CE(noisy prediction, label) + sum_l cost_l * mean (z_l - denoised z_l)²``.

    z_l are the batch-normalised values of layer l in a pass without noise. From the top down, each
    level is denoised from its own noisy values and from what the level above was denoised to.

    Source: Semi-Supervised Learning with Ladder Networks (Rasmus et al., 2015). Unlike there,
    what is denoised is compared with the normalised values without being shifted and scaled once
    more, and the average over unlabelled images normalises in the end.
    """

    def __init__(self, config: LadderConfig, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config
        if self.classifier.logit_norm_name != "batch":
            raise ConfigError(
                'The ladder needs logits with batch norm: set classification.logit_norm = "batch", '
                "as the recipe ladder does."
            )
        weights = generator(task.seed, "ladder")
        sizes = [self.num_classes]
        if config.kind == "full":
            sizes = [*_level_sizes(self.classifier), self.num_classes]
        self.down = nn.ModuleList(
            empty_linear(above, below, bias=False) for below, above in pairwise(sizes)
        )
        initialise(self.down, "xavier", weights)
        self.denoise = nn.ModuleList(Denoiser(size) for size in sizes)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """One pass without noise, one with, one down; labelled images pass with noise alone.

        They are normalised by themselves: the few there are come in every batch, and together the
        unlabelled ones would be normalised by them.
        """
        unknown = unlabelled_part(batch).views[0]
        clean, _ = self._up(unknown, None)
        with untracked(self.classifier):
            noisy, guesses = self._up(unknown, batch.generator)
            _, known = self._up(batch.images, batch.generator)
        error = self._denoising_error(clean, noisy, guesses)
        return self.result(batch, known, error, 1.0)

    def _up(self, images: Tensor, random: torch.Generator | None) -> tuple[list[Tensor], Tensor]:
        """All levels from the pixels to the logits, with noise where `random` is given.

        Returns:
            Normalised values (B, D) of each level, and the logits (B, K).
        """
        noise = _noise(self.config.noise, random)
        levels: list[Tensor] = []
        pixels = images + noise(images)
        if self.config.kind == "full":
            levels.append(pixels.flatten(1))
        with _noisy_norms(self.classifier, noise) as found:
            logits = self.classifier(pixels).float()
        return levels + (found if self.config.kind == "full" else found[-1:]), logits

    def _denoising_error(self, clean: list[Tensor], noisy: list[Tensor], logits: Tensor) -> Tensor:
        above = normalised(logits.softmax(dim=1))
        total = logits.new_zeros(())
        for number in reversed(range(len(clean))):
            denoised = self.denoise[number](noisy[number], above)
            cost = self.config.costs[min(number, len(self.config.costs) - 1)]
            if self.config.kind == "gamma":
                cost = self.config.costs[-1]
            total = total + cost * F.mse_loss(denoised, clean[number])
            if number:
                above = normalised(self.down[number - 1](denoised).float())
        return total


class Denoiser(nn.Module):
    """``(z - m(u)) v(u) + m(u)`` for each unit.

    m and v are ``a1 sigmoid(a2 u + a3) + a4 u + a5``, z are noisy values, u what comes from above;
    both (B, D). Source: equation 2 of the paper.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.for_mean = nn.Parameter(torch.zeros(5, size))
        self.for_factor = nn.Parameter(torch.zeros(5, size))
        with torch.no_grad():
            self.for_mean[1] = 1.0
            self.for_factor[1] = 1.0
            self.for_factor[4] = 1.0  # leaves the noisy values as they are

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """Denoised values (B, D)."""
        mean, factor = _curve(self.for_mean, above), _curve(self.for_factor, above)
        return (noisy - mean) * factor + mean


def _curve(a: Tensor, u: Tensor) -> Tensor:
    return a[0] * torch.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]


def normalised(values: Tensor) -> Tensor:
    """Values (B, D) to zero mean and unit deviation over the batch."""
    variance, mean = torch.var_mean(values.float(), dim=0, correction=0)
    return (values.float() - mean) / (variance + _EPSILON).sqrt()


def _noise(deviation: float, random: torch.Generator | None) -> Callable[[Tensor], Tensor | float]:
    def draw(values: Tensor) -> Tensor | float:
        if random is None or not deviation:
            return 0.0
        normal = torch.randn(values.shape, generator=random, device=values.device)
        return deviation * normal

    return draw


@contextmanager
def _noisy_norms(
    network: nn.Module, noise: Callable[[Tensor], Tensor | float]
) -> Iterator[list[Tensor]]:
    """Within the block, add noise between each batch norm and its affine part; collect levels."""
    levels: list[Tensor] = []

    def disturb(norm: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if output.ndim != 2:
            return output
        values = normalised(inputs[0])
        values = values + noise(values)
        levels.append(values)
        assert isinstance(norm, _BatchNorm)
        return torch.addcmul(norm.bias, values, norm.weight)

    with ExitStack() as stack:
        for norm in _norms(network):
            stack.enter_context(norm.register_forward_hook(disturb))
        yield levels


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _level_sizes(classifier: Classifier) -> list[int]:
    """Pixels, then the outputs of each norm of the encoder."""
    norms = _norms(classifier.encoder)
    if not norms or not all(isinstance(norm, nn.BatchNorm1d) for norm in norms):
        raise ConfigError(
            "The full ladder needs a fully connected encoder with batch norm: set "
            'network.name = "mlp" and network.norm = "batch", or semisupervised.kind = "gamma".'
        )
    channels, height, width = classifier.encoder.image_shape
    return [channels * height * width, *(norm.num_features for norm in norms)]
