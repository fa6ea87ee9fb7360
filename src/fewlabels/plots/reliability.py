"""Is a probability of 0.8 right in 80 % of the cases?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewlabels.plots.figure import INK, LINES, new_axes, to_svg


def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against confidence as an SVG element.

    Args:
        bins: with ``low``, ``high``, ``confidence``, ``accuracy``, ``num_images``.
    """
    figure, axes = new_axes(4.6, 3.2)
    filled = [one for one in bins if one["num_images"]]
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    most = max((one["num_images"] for one in filled), default=1)
    axes.scatter(
        [one["confidence"] for one in filled],
        [one["accuracy"] for one in filled],
        s=[20 + 180 * one["num_images"] / most for one in filled],
        color=LINES[0],
        alpha=0.8,
        linewidths=0,
    )
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.05), xlabel="confidence", ylabel="accuracy")
    return to_svg(figure, "Accuracy against confidence; the dotted line is perfect calibration.")
