"""A map of the features in two dimensions."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from fewlabels.plots.figure import MUTED, new_axes, to_svg


def class_colours(num_classes: int) -> list[str]:
    """Colours that can be told apart on white and on black, as ``#rrggbb``."""
    if num_classes <= 10:
        table = matplotlib.colormaps["tab10"]
        return [matplotlib.colors.to_hex(table(index)) for index in range(num_classes)]
    table = matplotlib.colormaps["turbo"]
    places = np.linspace(0.08, 0.92, num_classes)
    return [matplotlib.colors.to_hex(table(place)) for place in places]


def feature_map(points: npt.NDArray[Any], labels: npt.NDArray[np.int64], num_classes: int) -> str:
    """Points coloured by class as an SVG element; those without a label are faint.

    Args:
        points: float (P, 2).
        labels: int64 (P,), -1 for none.
        num_classes: K; colours are those of `class_colours`.
    """
    figure, axes = new_axes(6.0, 4.6)
    unlabelled = labels < 0
    axes.scatter(*points[unlabelled].T, s=7, color=MUTED, linewidths=0)
    for index, colour in enumerate(class_colours(num_classes)):
        axes.scatter(*points[labels == index].T, s=18, color=colour, linewidths=0)
    axes.set_axis_off()
    counts = f"{int((~unlabelled).sum())} labelled and {int(unlabelled.sum())} unlabelled images"
    return to_svg(figure, f"Map of the features of {counts}, coloured by class.")
