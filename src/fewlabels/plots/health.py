"""Activations and gradients by stage, against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewlabels.plots.figure import INK, LINES, new_axes, to_svg

_MOST_NAMED = 6
_FAINTEST = 0.25


def stage_chart(
    title: str, by_stage: Mapping[str, Sequence[float | None]], quantity: str, *, log: bool
) -> str:
    """One line a stage, from faint at the image to full at the output, as an SVG element.

    Args:
        title: of the phase, for readers that see no picture.
        by_stage: one value per epoch and stage, stages in their order; None where not measured.
        quantity: what is drawn.
        log: whether powers of ten are equally far apart; what is 0 is left out then.
    """
    figure, axes = new_axes(4.6, 2.7)
    count = len(by_stage)
    for number, (name, values) in enumerate(by_stage.items()):
        points = [
            (epoch + 1, value)
            for epoch, value in enumerate(values)
            if value is not None and (value > 0 or not log)
        ]
        if not points:
            continue
        # With many stages, the first and the last are named; the others lie between.
        named = count <= _MOST_NAMED or number in (0, count - 1)
        strength = _FAINTEST + (1 - _FAINTEST) * number / max(1, count - 1)
        axes.plot(
            *zip(*points, strict=True),
            color=LINES[0],
            alpha=strength,
            label=name if named else None,
            marker="o" if len(points) < 3 else None,
        )
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    if axes.lines:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    else:
        axes.text(0.5, 0.5, "0 throughout", transform=axes.transAxes, ha="center", color=INK)
    return to_svg(figure, f"{quantity} of {title} by stage: {', '.join(by_stage)}.")
