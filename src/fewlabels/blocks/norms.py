"""Norms by name, for vectors (B, D) and for maps (B, C, H, W)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor, nn

from fewlabels.errors import ConfigError
from fewlabels.lookup import find, known_in

FEWEST_IMAGES = 8
"""Of a batch, below which a batch norm's statistics are mostly noise."""

_LARGEST_NUM_GROUPS = 32


def _check_batch(images: Tensor, training: bool) -> None:
    if training and len(images) < FEWEST_IMAGES:
        warnings.warn(
            f"Batch norm over a batch of {len(images)}: the mean and the deviation of fewer than "
            f"{FEWEST_IMAGES} images are mostly noise. Use larger batches or norm = group.",
            stacklevel=3,
        )


class BatchNorm1d(nn.BatchNorm1d):
    """torch's, which says so where a batch is too small for it; running statistics at test."""

    def forward(self, input: Tensor) -> Tensor:
        """Features (B, D) to the same shape."""
        _check_batch(input, self.training)
        return super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, which says so where a batch is too small for it; running statistics at test."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        _check_batch(input, self.training)
        return super().forward(input)


def _instance_vector(num_features: int) -> nn.Module:
    raise ConfigError(
        "An instance norm needs maps: of a feature vector each image has one value a channel, and "
        "nothing would be left. Allowed for vectors: batch, group, layer, none."
    )


def group_norm(num_channels: int) -> nn.GroupNorm:
    """32 groups, as in the paper, or the largest number below that divides the channels."""
    return nn.GroupNorm(math.gcd(num_channels, _LARGEST_NUM_GROUPS), num_channels)


NORMS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {
    "none": (lambda num_features: nn.Identity(), lambda num_channels: nn.Identity()),
    "batch": (BatchNorm1d, BatchNorm2d),
    "layer": (nn.LayerNorm, lambda num_channels: nn.GroupNorm(1, num_channels)),
    "instance": (_instance_vector, lambda channels: nn.InstanceNorm2d(channels, affine=True)),
    "group": (group_norm, group_norm),
}
"""From the name to what builds the norm of vectors, and to what builds that of maps."""

NormName = Annotated[str, AfterValidator(known_in(NORMS, "norm"))]
"""In settings: a name of the table."""


def norm(name: str, num_features: int) -> nn.Module:
    """A new norm layer over vectors (B, `num_features`).

    "batch": Batch Normalization (Ioffe and Szegedy, 2015); "layer": Layer Normalization (Ba, Kiros
    and Hinton, 2016); "group": Group Normalization (Wu and He, 2018).

    Raises:
        UnknownNameError: no norm of that name.
        ConfigError: a norm that says nothing of vectors.
    """
    return find(NORMS, name, "norm")[0](num_features)


def map_norm(name: str, num_channels: int) -> nn.Module:
    """A new norm layer over maps (B, `num_channels`, H, W).

    As `norm`; "layer" takes all channels and places of an image together, "instance" each channel
    of each image by itself (Ulyanov et al., 2016).

    Raises:
        UnknownNameError: no norm of that name.
    """
    return find(NORMS, name, "norm")[1](num_channels)


def without_bias(name: str) -> bool:
    """Whether a bias before this norm would be a dead parameter, as the norm takes it off again."""
    return name in ("batch", "instance")
