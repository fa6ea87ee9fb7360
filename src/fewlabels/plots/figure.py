"""From a matplotlib figure to an SVG element that takes its colours from the page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Drawn in these colours, then replaced by the page's variables: matplotlib knows no variables.
INK = "#010203"
FAINT = "#020304"
MUTED = "#070809"
LINES = ("#030405", "#040506", "#050607", "#060708")
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--line)",
    MUTED: "var(--dots)",
    LINES[0]: "var(--blue)",
    LINES[1]: "var(--orange)",
    LINES[2]: "var(--green)",
    LINES[3]: "var(--red)",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fewlabels",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
}


def new_axes(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of `width` × `height` inches with one pair of axes in the house style."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
    return figure, axes


def write_figure(figure: Figure, file: Path, ending: str) -> None:
    """Write a figure that stands by itself, the same bytes each time; SVG keeps its text as text.

    Args:
        figure: in colours of its own.
        file: to write.
        ending: "svg", "png" or "pdf".
    """
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fewlabels"}):
        figure.savefig(file, format=ending, dpi=150, metadata=dates.get(ending))


def to_svg(figure: Figure, description: str) -> str:
    """The figure as one ``<svg>`` element that scales with the page.

    Args:
        figure: drawn in the colours of this module, or in any others that suit both themes.
        description: read out in place of the picture.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The element scales by its view box; a fixed size would overflow on a phone.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
