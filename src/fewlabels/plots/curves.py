"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewlabels.plots.figure import INK, LINES, new_axes, to_svg


def learning_curve(
    title: str,
    curves: Mapping[str, Sequence[float | None]],
    best_epoch: int | None,
    quantity: str = "loss",
) -> str:
    """Loss, or something else, against epoch as an SVG element.

    Args:
        title: of the phase, for readers that see no picture.
        curves: one value per epoch and name; None where not measured.
        best_epoch: marked with a line, counted from 0; None for no mark.
        quantity: what is drawn.
    """
    figure, axes = new_axes(4.6, 2.7)
    for colour, (name, values) in zip(LINES, curves.items(), strict=False):
        points = [(epoch + 1, value) for epoch, value in enumerate(values) if value is not None]
        if points:
            epochs, losses = zip(*points, strict=True)
            marker = "o" if len(points) < 3 else None
            axes.plot(epochs, losses, color=colour, label=name, marker=marker)
    positive = [v for values in curves.values() for v in values if v is not None and v > 0]
    if positive and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
    if best_epoch is not None:
        axes.axvline(best_epoch + 1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    place = "upper right" if quantity == "loss" else "lower right"
    axes.legend(loc=place, frameon=False, labelcolor=INK)
    return to_svg(figure, f"Learning curves of {title}: {', '.join(curves)} against epoch.")
