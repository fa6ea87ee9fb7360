"""A map of the features in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from fewlabels.plots.figure import INK, MUTED, new_axes, to_svg

MAX_NAMED_CLASSES = 20


def class_colours(num_classes: int) -> list[str]:
    """Colours that can be told apart on white and on black, as ``#rrggbb``."""
    if num_classes <= 10:
        table = matplotlib.colormaps["tab10"]
        return [matplotlib.colors.to_hex(table(index)) for index in range(num_classes)]
    table = matplotlib.colormaps["turbo"]
    places = np.linspace(0.08, 0.92, num_classes)
    return [matplotlib.colors.to_hex(table(place)) for place in places]


def feature_map(
    points: npt.NDArray[Any], labels: npt.NDArray[np.int64], class_names: Sequence[str]
) -> str:
    """Points coloured by class as an SVG element; those without a label are faint.

    Args:
        points: float (P, 2).
        labels: int64 (P,), -1 for none.
        class_names: K names.
    """
    figure, axes = new_axes(6.4, 5.0)
    unlabelled = labels < 0
    axes.scatter(*points[unlabelled].T, s=7, color=MUTED, linewidths=0, label="no label")
    for index, colour in enumerate(class_colours(len(class_names))):
        chosen = points[labels == index]
        if len(chosen):
            axes.scatter(*chosen.T, s=18, color=colour, linewidths=0, label=class_names[index])
    axes.set_axis_off()
    if len(class_names) <= MAX_NAMED_CLASSES:
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            markerscale=1.6,
            frameon=False,
            labelcolor=INK,
        )
    counts = f"{int((~unlabelled).sum())} labelled and {int(unlabelled.sum())} unlabelled images"
    return to_svg(figure, f"Map of the features of {counts}, coloured by class.")
