"""Pictures of comparisons that stand by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from fewlabels.errors import ConfigError
from fewlabels.files import check_folder_of, write_atomically
from fewlabels.plots.figure import write_figure

ENDINGS = (".svg", ".png", ".pdf")
_BLUE, _ORANGE, _GREY = "#4c78a8", "#f58518", "#888888"


def check_picture(file: Path | None) -> None:
    """Refuse a picture that cannot be written, before anything takes time.

    Raises:
        ConfigError: an unknown ending.
        StorageError: its folder does not exist.
    """
    if file is None:
        return
    if file.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"The picture {file} must end in {', '.join(ENDINGS)}. Got {file.suffix!r}."
        )
    check_folder_of(file)


def write_picture(figure: Figure, file: Path) -> None:
    """Write a figure in the form that the file's ending says.

    Raises:
        StorageError: it cannot be written.
    """
    ending = file.suffix.lower().removeprefix(".")
    write_atomically(file, lambda temporary: write_figure(figure, temporary, ending))


def width_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Error and probe against the width of the latent, the objective beside PCA.

    Args:
        rows: each with "width", "error", "pca_error", "probe" and "pca_probe", shares or None.
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    widths = [row["width"] for row in rows]
    for axes, ours, theirs, title in (
        (left, "error", "pca_error", "squared error per pixel"),
        (right, "probe", "pca_probe", "accuracy of a linear probe"),
    ):
        for key, colour, label in ((ours, _BLUE, "objective"), (theirs, _GREY, "PCA")):
            points = [
                (w, row[key]) for w, row in zip(widths, rows, strict=True) if row[key] is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label, markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("width of the latent")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yscale("log")
    left.legend(frameon=False)
    return figure


def difference_chart(rows: Sequence[Mapping[str, Any]], reference: float, title: str) -> Figure:
    """A dot an objective, every draw a small one, and the reference as a line.

    Args:
        rows: best first, each with "name", "mean" and "accuracies", shares.
        reference: mean accuracy from scratch.
        title: above.
    """
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        draws = [100 * value for value in row["accuracies"]]
        axes.plot(draws, [place] * len(draws), "|", color=_GREY, markersize=8)
        axes.plot([100 * row["mean"]], [place], "o", color=_BLUE)
    axes.axvline(100 * reference, color=_ORANGE, linewidth=1)
    axes.text(100 * reference, len(rows) - 0.4, " scratch", color=_ORANGE, fontsize=8)
    axes.set_yticks(range(len(rows)), [row["name"].replace("_", " ") for row in reversed(rows)])
    axes.set_xlabel("accuracy in percent: mean, and each draw")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
