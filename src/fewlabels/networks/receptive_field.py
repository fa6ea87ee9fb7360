"""How large a part of the image each value of a network depends on, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """The field of a map's values along one axis, in pixels of the image.

    Attributes:
        size: pixels that one value depends on; infinite where it may be all of them.
        stride: distance of the fields of neighbouring values.
        offset: middle of the first value's field; pixels count from 0.
    """

    size: float = 1.0
    stride: float = 1.0
    offset: float = 0.0

    def convolved(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """After a convolution or a pooling: ``r + (f - 1) * j``, the stride ``j * s``.

        Source: Computing Receptive Fields of Convolutional Neural Networks (Araujo et al., 2019).
        """
        reach = dilation * (kernel - 1)
        return Axis(
            self.size + reach * self.stride,
            self.stride * stride,
            self.offset + (reach / 2 - padding) * self.stride,
        )

    def transposed(self, kernel: int, stride: int, padding: int) -> Axis:
        """After a transposed convolution: up to ``ceil(f / s)`` values meet in one."""
        meeting = math.ceil(kernel / stride) - 1
        return Axis(
            self.size + meeting * self.stride,
            self.stride / stride,
            self.offset + (padding - (kernel - 1) / 2) / stride * self.stride,
        )

    def resized(self, factor: float, taps: int) -> Axis:
        """After an interpolation that makes the side `factor` times as long."""
        return Axis(
            self.size + (taps - 1) * self.stride,
            self.stride / factor,
            self.offset + (0.5 / factor - 0.5) * self.stride,
        )

    def padded(self, before: int) -> Axis:
        """After so many values were put before the first one."""
        return Axis(self.size, self.stride, self.offset - before * self.stride)

    def joined(self, other: Axis) -> Axis:
        """What depends on both."""
        if math.inf in (self.size, other.size):
            return WHOLE
        low = min(self.offset - self.size / 2, other.offset - other.size / 2)
        high = max(self.offset + self.size / 2, other.offset + other.size / 2)
        return Axis(high - low, max(self.stride, other.stride), (low + high) / 2)


WHOLE = Axis(size=math.inf)
Field = tuple[Axis, Axis]
"""Of rows and of columns."""

_VIEWS = (
    "view",
    "_unsafe_view",
    "reshape",
    "transpose",
    "permute",
    "t",
    "expand",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
    "split",
    "unbind",
    "alias",
    "clone",
    "_to_copy",
    "detach",
    "contiguous",
)
_VALUE_BY_VALUE = ("add", "sub", "mul", "div", "relu", "gelu", "silu", "sigmoid", "tanh", "elu")
_TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}
_MAPS = 4
"""Axes from which on the last two are rows and columns."""


def after(
    name: str, inputs: Sequence[tuple[Tensor, Field]], arguments: Sequence[Any], output: Tensor
) -> Field:
    """The field of an operation's output.

    Means over the whole image inside a norm are not counted: they hardly depend on a single pixel.

    Args:
        name: of the operation, as torch's ``aten`` has it.
        inputs: the tensors that go in and depend on the image, with their fields; at least one.
        arguments: all that goes in.
        output: what came out.
    """
    first, (rows, columns) = inputs[0]
    if name in _VIEWS:
        return _viewed((rows, columns), first, output)
    if name in _RULES:
        rule = _RULES[name]
        return (rule(rows, 0, arguments), rule(columns, 1, arguments))
    if "upsample" in name:
        return _resized(name, (rows, columns), first, output)
    if len(inputs) == 1 and name in _VALUE_BY_VALUE:
        return (rows, columns)
    if output.ndim < _MAPS or all(one.shape[-2:] != output.shape[-2:] for one, _ in inputs):
        return (WHOLE, WHOLE)
    for _, other in inputs[1:]:
        rows, columns = rows.joined(other[0]), columns.joined(other[1])
    return (rows, columns)


def _viewed(field: Field, before: Tensor, output: Tensor) -> Field:
    """Maps whose sides are cut into a sequence lose the side that was cut; tokens keep both."""
    if output.ndim < _MAPS or before.ndim < _MAPS:
        return field
    rows, columns = (
        axis if new == old else WHOLE
        for axis, new, old in zip(field, output.shape[-2:], before.shape[-2:], strict=True)
    )
    return (rows, columns)


def _pair(value: Any, axis: int) -> int:
    """A number, or one for each axis; torch takes an empty list for the kernel's own size."""
    if isinstance(value, int):
        return value
    return int(value[axis] if len(value) > 1 else value[0])


def _convolution(field: Axis, axis: int, arguments: Sequence[Any]) -> Axis:
    weight, _, stride, padding, dilation, transposed = arguments[1:7]
    kernel = int(weight.shape[2 + axis])
    if transposed:
        return field.transposed(kernel, _pair(stride, axis), _pair(padding, axis))
    return field.convolved(kernel, _pair(stride, axis), _pair(padding, axis), _pair(dilation, axis))


def _pooling(field: Axis, axis: int, arguments: Sequence[Any]) -> Axis:
    kernel = _pair(arguments[1], axis)
    stride = arguments[2] if len(arguments) > 2 and arguments[2] else kernel
    padding = arguments[3] if len(arguments) > 3 else 0
    return field.convolved(kernel, _pair(stride, axis), _pair(padding, axis))


def _padding(field: Axis, axis: int, arguments: Sequence[Any]) -> Axis:
    before = list(arguments[1])[::2]  # columns first, then rows
    place = 1 - axis
    return field.padded(before[place]) if place < len(before) else field


def _resized(name: str, field: Field, maps: Tensor, output: Tensor) -> Field:
    taps = next(taps for kind, taps in _TAPS.items() if kind in name)
    height, width = (new / old for new, old in zip(output.shape[2:], maps.shape[2:], strict=True))
    rows, columns = (
        # Smoothed, the curve is as much wider as the side gets shorter.
        axis.resized(factor, math.ceil(taps / min(1, factor)) if "_aa" in name else taps)
        for axis, factor in zip(field, (height, width), strict=True)
    )
    return (rows, columns)


_RULES: dict[str, Callable[[Axis, int, Sequence[Any]], Axis]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "constant_pad_nd": _padding,
}
