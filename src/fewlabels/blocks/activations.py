"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fewlabels.lookup import find

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: str) -> nn.Module:
    """A new activation layer.

    Raises:
        UnknownNameError: no activation of that name.
    """
    return find(ACTIVATIONS, name, "activation")()
