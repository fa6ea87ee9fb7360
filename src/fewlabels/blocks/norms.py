"""Norms by name, for vectors (B, D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator
from torch import nn

from fewlabels.lookup import find, known_in

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda num_features: nn.Identity(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}

NormName = Annotated[str, AfterValidator(known_in(NORMS, "norm"))]
"""In settings: a name of the table."""


def norm(name: str, num_features: int) -> nn.Module:
    """A new norm layer over `num_features` values per image.

    "batch": Batch Normalization (Ioffe and Szegedy, 2015); "layer": Layer Normalization (Ba, Kiros
    and Hinton, 2016).

    Raises:
        UnknownNameError: no norm of that name.
    """
    return find(NORMS, name, "norm")(num_features)
