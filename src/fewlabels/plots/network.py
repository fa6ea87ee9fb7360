"""A network drawn as boxes, one a stage: the higher, the larger its maps; the wider, the more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_COLOURS = ("#4c78a8", "#72a3cf")
_INK, _FAINT = "#222222", "#888888"
_MAPS = 3  # axes of (C, H, W); a sequence of them has more


def draw_network(
    title: str, image_shape: Sequence[int], stages: Sequence[Mapping[str, Any]]
) -> Figure:
    """A figure of the image and its stages from left to right.

    Args:
        title: above the picture.
        image_shape: (C, H, W).
        stages: each with "name", "output_shape" and "num_parameters".
    """
    boxes: list[tuple[str, tuple[int, ...], int | None]] = [("image", tuple(image_shape), None)]
    boxes += [(str(s["name"]), tuple(s["output_shape"]), int(s["num_parameters"])) for s in stages]
    figure = Figure(figsize=(max(5.0, 1.25 * len(boxes)), 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, loc="left", color=_INK)
    place = 0.0
    highest = max(_height(shape) for _, shape, _ in boxes)
    for number, (name, shape, parameters) in enumerate(boxes):
        height, width = _height(shape), _width(shape)
        colour = "#bbbbbb" if parameters is None else _COLOURS[number % 2]
        axes.add_patch(
            Rectangle((place, -height / 2), width, height, facecolor=colour, edgecolor=_INK)
        )
        middle = place + width / 2
        sides = "×".join(map(str, shape))
        below = name if parameters is None else f"{name}\n{_short(parameters)}"
        for down, text, size, ink in ((0.25, sides, 8, _INK), (0.8, below, 7, _FAINT)):
            axes.text(
                middle, -highest / 2 - down, text, ha="center", va="top", fontsize=size, color=ink
            )
        place += width + 0.9
    axes.set_xlim(-0.5, place)
    axes.set_ylim(-highest / 2 - 2.0, highest / 2 + 0.3)
    return figure


def _height(shape: Sequence[int]) -> float:
    """By the side of maps, and by nothing for vectors."""
    side = shape[-2] if len(shape) >= _MAPS else 1
    return 0.5 + 0.6 * math.log2(max(1, side))


def _width(shape: Sequence[int]) -> float:
    """By the channels, or by the length of a vector."""
    return 0.15 + 0.12 * math.log2(max(1, shape[-3] if len(shape) >= _MAPS else shape[-1]))


def _short(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
