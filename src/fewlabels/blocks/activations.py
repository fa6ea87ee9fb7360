"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from fewlabels.lookup import find, known_in

MAXOUT_PIECES = 2


class _StraightThrough(torch.autograd.Function):
    """The step, with the gradient of the identity where the input is small."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return (values > 0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        passed: Tensor = gradients[0] * (values.abs() <= 1)
        return passed


class Step(nn.Module):
    """1 where the input is positive, else 0.

    Its true gradient is 0 everywhere; the straight-through one is taken instead: that of the
    identity where ``|x| <= 1``.

    Source: Estimating or Propagating Gradients Through Stochastic Neurons (Bengio et al., 2013);
    the bound on ``|x|`` is that of Binarized Neural Networks (Hubara et al., 2016).
    """

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape to the same shape."""
        stepped: Tensor = _StraightThrough.apply(values)  # type: ignore[no-untyped-call]
        return stepped


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring channels: (B, pieces · C, …) to (B, C, …).

    The layer before it gives `pieces` times as many channels as come out, see `num_pieces`.

    Source: Maxout Networks (Goodfellow et al., 2013).
    """

    def __init__(self, pieces: int = MAXOUT_PIECES) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        """Values (B, pieces · C, …) to (B, C, …)."""
        pieces = torch.unflatten(values, 1, (-1, self.pieces))
        return pieces.amax(dim=2)

    def extra_repr(self) -> str:
        """For print."""
        return f"pieces={self.pieces}"


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "step": Step,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),  # Maas et al., 2013
    "parametric_relu": nn.PReLU,  # He et al., 2015: the slope of the negative side is learnt
    "elu": nn.ELU,  # Clevert et al., 2016
    "maxout": Maxout,
    "swish": nn.SiLU,  # Ramachandran et al., 2017
    "gelu": nn.GELU,  # Hendrycks and Gimpel, 2016
}

ActivationName = Annotated[str, AfterValidator(known_in(ACTIVATIONS, "activation"))]
"""In settings: a name of the table."""

_KEEPING = {name: make for name, make in ACTIVATIONS.items() if name != "maxout"}

KeepingActivationName = Annotated[str, AfterValidator(known_in(_KEEPING, "activation here"))]
"""In settings: a name of an activation that gives as many channels as it takes."""


def activation(name: str) -> nn.Module:
    """A new activation layer.

    Raises:
        UnknownNameError: no activation of that name.
    """
    return find(ACTIVATIONS, name, "activation")()


def num_pieces(name: str) -> int:
    """How many channels the activation needs for each one that it gives."""
    return MAXOUT_PIECES if name == "maxout" else 1
