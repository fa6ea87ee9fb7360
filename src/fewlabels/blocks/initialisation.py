"""Starting weights by name; biases start at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from fewlabels.lookup import find, known_in

Initialisation = Callable[[Tensor, torch.Generator], Tensor]

INITIALISATIONS: dict[str, Initialisation] = {
    "xavier": lambda weight, generator: nn.init.xavier_normal_(weight, generator=generator),
    "kaiming": lambda weight, generator: nn.init.kaiming_normal_(
        weight, nonlinearity="relu", generator=generator
    ),
}

InitialisationName = Annotated[str, AfterValidator(known_in(INITIALISATIONS, "initialisation"))]
"""In settings: a name of the table."""


def empty_linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights have yet to be drawn by `initialise`.

    torch's own constructor would draw from the global generator, which belongs to the caller.
    """
    layer: nn.Linear = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, num_inputs, num_outputs, bias=bias
    )
    return layer


def empty_convolution(
    num_inputs: int,
    num_outputs: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution whose weights have yet to be drawn by `initialise`; see `empty_linear`."""
    layer: nn.Conv2d = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d,
        num_inputs,
        num_outputs,
        kernel_size,
        stride=stride,
        padding=padding,
        bias=bias,
    )
    return layer


def initialise(module: nn.Module, name: str, generator: torch.Generator) -> None:
    """Draw the weights of all linear layers and convolutions inside `module`, in order.

    "xavier": normal with variance 2 / (inputs + outputs) (Glorot and Bengio, 2010).
    "kaiming": normal with variance 2 / inputs (He et al., 2015), for rectifiers.

    Raises:
        UnknownNameError: no initialisation of that name.
    """
    draw = find(INITIALISATIONS, name, "initialisation")
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            draw(layer.weight, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
