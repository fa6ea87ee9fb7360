"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator
from torch import nn

from fewlabels.lookup import find, known_in

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

ActivationName = Annotated[str, AfterValidator(known_in(ACTIVATIONS, "activation"))]
"""In settings: a name of the table."""


def activation(name: str) -> nn.Module:
    """A new activation layer.

    Raises:
        UnknownNameError: no activation of that name.
    """
    return find(ACTIVATIONS, name, "activation")()
