"""Starting weights by name; biases start at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, PositiveFloat
from torch import Tensor, nn

from fewlabels.lookup import find, known_in

Draw = Callable[[Tensor, torch.Generator], Tensor]

INITIALISATIONS: dict[str, Draw] = {
    "xavier": lambda weight, generator: nn.init.xavier_normal_(weight, generator=generator),
    "kaiming": lambda weight, generator: nn.init.kaiming_normal_(
        weight, nonlinearity="relu", generator=generator
    ),
    "orthogonal": lambda weight, generator: nn.init.orthogonal_(
        weight, gain=2**0.5, generator=generator
    ),
}

InitialisationName = Annotated[str, AfterValidator(known_in(INITIALISATIONS, "initialisation"))]
"""In settings: a name of the table."""

Initialisation = InitialisationName | PositiveFloat
"""In settings: a name of the table, or the deviation of a zero-mean Gaussian."""

_WITH_WEIGHTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def _empty(layer: type[Any], *arguments: Any, **settings: Any) -> Any:
    """A layer whose weights have yet to be drawn by `initialise`.

    torch's own constructor would draw from the global generator, which belongs to the caller.
    """
    return torch.nn.utils.skip_init(layer, *arguments, **settings)  # type: ignore[no-untyped-call]


def empty_linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights have yet to be drawn by `initialise`."""
    layer: nn.Linear = _empty(nn.Linear, num_inputs, num_outputs, bias=bias)
    return layer


def empty_convolution(
    num_inputs: int,
    num_outputs: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution whose weights have yet to be drawn by `initialise`."""
    layer: nn.Conv2d = _empty(
        nn.Conv2d,
        num_inputs,
        num_outputs,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    return layer


def empty_transposed(
    num_inputs: int,
    num_outputs: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    bias: bool = True,
) -> nn.ConvTranspose2d:
    """A transposed convolution whose weights have yet to be drawn by `initialise`."""
    layer: nn.ConvTranspose2d = _empty(
        nn.ConvTranspose2d,
        num_inputs,
        num_outputs,
        kernel_size,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        bias=bias,
    )
    return layer


def initialise(module: nn.Module, how: str | float, generator: torch.Generator) -> None:
    """Draw the weights of all linear layers and convolutions inside `module`, in order.

    "xavier": normal with variance 2 / (inputs + outputs) (Glorot and Bengio, 2010).
    "kaiming": normal with variance 2 / inputs (He et al., 2015), for rectifiers.
    "orthogonal": an orthogonal matrix times √2, for rectifiers (Saxe et al., 2014).
    A number is the deviation of a zero-mean normal.

    Args:
        module: its layers get their weights.
        how: a name of the table, or a deviation.
        generator: draws.

    Raises:
        UnknownNameError: no initialisation of that name.
    """
    for layer in module.modules():
        if isinstance(layer, _WITH_WEIGHTS):
            draw_weight(layer.weight, how, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_weight(weight: Tensor, how: str | float, generator: torch.Generator) -> None:
    """Draw one weight in place; see `initialise`."""
    if isinstance(how, float):
        nn.init.normal_(weight, 0.0, how, generator=generator)
    else:
        find(INITIALISATIONS, how, "initialisation")(weight, generator)
