"""Convolution units: a convolution, its norm and its activation."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from fewlabels.blocks.activations import activation, num_pieces
from fewlabels.blocks.initialisation import empty_convolution, empty_transposed
from fewlabels.blocks.norms import map_norm, without_bias
from fewlabels.errors import ConfigError
from fewlabels.lookup import find

Kind = Literal["standard", "depthwise_separable", "transposed"]
Padding = int | Literal["valid", "same"]


def output_side(
    side: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    floor: bool = False,
) -> int:
    """``(N + 2P - F) / S + 1``, the side of the maps that a convolution or a pooling gives.

    Args:
        side: N, of the input, in pixels.
        kernel_size: of the kernel; F is ``dilation * (kernel_size - 1) + 1``.
        stride: S.
        padding: P, on each side.
        dilation: distance of the kernel's pixels.
        floor: whether to round down where the stride does not divide, which leaves out pixels.

    Raises:
        ConfigError: the kernel is larger than the padded input, or the stride does not divide.
    """
    if stride < 1:
        raise ConfigError(f"A stride must be a number of pixels from 1 on. Got {stride}.")
    kernel = dilation * (kernel_size - 1) + 1
    room = side + 2 * padding - kernel
    arithmetic = f"(N + 2P - F) / S + 1 = ({side} + 2·{padding} - {kernel}) / {stride} + 1"
    if room < 0:
        raise ConfigError(
            f"A kernel of {kernel} pixels does not fit on {side} pixels with a padding of "
            f"{padding}: {arithmetic} is below 1. Use a smaller kernel or larger images."
        )
    if room % stride and not floor:
        raise ConfigError(
            f"A stride of {stride} does not divide: {arithmetic} = {room / stride + 1:g}. "
            f"Change the padding or the kernel, or ask for floor to leave out the last "
            f"{room % stride} pixels."
        )
    return room // stride + 1


def amount(padding: Padding, kernel_size: int, dilation: int = 1) -> int:
    """Pixels of padding on each side; "same" keeps the side where the stride is 1.

    Raises:
        ConfigError: "same" with an even kernel, which would need unequal sides, or no padding.
    """
    if padding == "valid":
        return 0
    if padding == "same":
        if dilation * (kernel_size - 1) % 2:
            raise ConfigError(
                f"Padding `same` needs an odd kernel, as both sides get the same. Got a kernel of "
                f"{kernel_size}. Give the padding as a number."
            )
        return dilation * (kernel_size - 1) // 2
    if not isinstance(padding, int) or padding < 0:
        raise ConfigError(f"Padding must be valid, same or a number from 0 on. Got {padding!r}.")
    return padding


class ConvolutionUnit(nn.Module):
    """Convolution, norm, activation; parts that do nothing are left out.

    "standard" with a kernel of 1 is a pointwise convolution (Lin et al., 2014); with a dilation
    above 1 a dilated one (Yu and Koltun, 2016). "depthwise_separable" filters each map by itself
    and then mixes the maps pointwise (Chollet, 2017). "transposed" turns a convolution round, so
    that a stride enlarges (Zeiler et al., 2010).

    Args:
        num_inputs: maps that come in.
        num_outputs: maps that go out.
        kernel_size: side of the kernel.
        kind: of the convolution.
        stride: in pixels; of the output for "transposed".
        padding: "valid" for none, "same" to keep the side (for "transposed": to make it `stride`
            times as long), or pixels on each side.
        dilation: distance of the kernel's pixels.
        norm: name of the norm.
        activation_name: name of the activation.
        floor: whether a stride that does not divide may leave out pixels; else it is an error.

    Raises:
        ConfigError: the numbers do not go together.
        UnknownNameError: no such kind, norm or activation.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        kernel_size: int = 3,
        *,
        kind: Kind = "standard",
        stride: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        norm: str = "batch",
        activation_name: str = "relu",
        floor: bool = False,
    ) -> None:
        super().__init__()
        find(dict.fromkeys(get_args(Kind)), kind, "kind of convolution")
        if stride < 1:
            raise ConfigError(f"A stride must be a number of pixels from 1 on. Got {stride}.")
        self.num_inputs, self.kernel_size, self.kind = num_inputs, kernel_size, kind
        self.stride, self.dilation, self.floor = stride, dilation, floor
        self.further = 0  # rows and columns put on at the far end
        if kind == "transposed" and padding == "same":
            self.padding = max(0, -(-(kernel_size - stride) // 2))
            self.further = stride - kernel_size + 2 * self.padding  # makes S · N of N
            if self.further >= stride:
                raise ConfigError(
                    f"Padding `same` needs an odd kernel where a transposed convolution has stride "
                    f"1. Got a kernel of {kernel_size}. Give the padding as a number."
                )
        else:
            self.padding = amount(padding, kernel_size, dilation)
        widened = num_outputs * num_pieces(activation_name)
        self.layers = nn.Sequential(
            *self._convolutions(kind, num_inputs, widened, bias=not without_bias(norm))
        )
        if norm != "none":
            self.layers.append(map_norm(norm, widened))
        if activation_name != "linear":
            self.layers.append(activation(activation_name))

    def _convolutions(
        self, kind: Kind, num_inputs: int, num_outputs: int, *, bias: bool
    ) -> list[nn.Module]:
        shape = {"stride": self.stride, "padding": self.padding}
        if kind == "transposed":
            if self.dilation != 1:
                raise ConfigError("A transposed convolution has no dilation here. Leave it at 1.")
            shape["output_padding"] = self.further
            return [empty_transposed(num_inputs, num_outputs, self.kernel_size, bias=bias, **shape)]
        shape["dilation"] = self.dilation
        if kind == "standard":
            return [
                empty_convolution(num_inputs, num_outputs, self.kernel_size, bias=bias, **shape)
            ]
        return [
            empty_convolution(
                num_inputs, num_inputs, self.kernel_size, groups=num_inputs, bias=False, **shape
            ),
            empty_convolution(num_inputs, num_outputs, 1, bias=bias),
        ]

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H', W').

        Raises:
            ConfigError: other maps than the unit was made for, a kernel larger than they are, or a
                stride that does not divide their sides and no floor.
        """
        if maps.shape[1] != self.num_inputs:
            raise ConfigError(
                f"This unit takes {self.num_inputs} maps. Got {maps.shape[1]}. Build it for as "
                "many as come in."
            )
        if self.kind != "transposed":
            for side in maps.shape[2:]:
                output_side(
                    int(side),
                    self.kernel_size,
                    stride=self.stride,
                    padding=self.padding,
                    dilation=self.dilation,
                    floor=self.floor,
                )
        made: Tensor = self.layers(maps)
        return made
