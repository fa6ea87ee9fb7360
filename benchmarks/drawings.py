"""The pictures of docs/networks.md and docs/blocks.md, and the table of what networks cost.

    python -m benchmarks.drawings

Every picture shows what the code does: it is computed by the blocks themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.pages import ROOT, write_block
from fewlabels.blocks.activations import ACTIVATIONS, activation
from fewlabels.blocks.attention import sinusoidal_positions
from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.dropout import DROPOUTS, dropout
from fewlabels.blocks.filters import FILTERS, FixedFilter
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.blocks.norms import NORMS, map_norm
from fewlabels.blocks.pooling import POOLINGS, pooling
from fewlabels.blocks.upsampling import UPSAMPLINGS, upsampling
from fewlabels.data import load_images
from fewlabels.networks import NETWORKS
from fewlabels.plots.figure import write_figure
from fewlabels.workflows.network import describe_network

DOCS = ROOT / "docs"
PAGE = DOCS / "networks.md"
SHAPES = ("1x28x28", "3x32x32")
BLUE, GREY = "#4c78a8", "#bbbbbb"


def draw_networks() -> None:
    """One drawing a network, and the table of costs."""
    lines = [
        "| network | parameters, 1 × 28 × 28 | multiply-adds | parameters, 3 × 32 × 32 "
        "| multiply-adds | stages |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(set(NETWORKS) - {"pretrained"}):
        grey = describe_network(name, SHAPES[0], 10)
        colour = describe_network(name, SHAPES[1], 10, drawing=DOCS / "networks" / f"{name}.svg")
        cells = [
            f"{result['total'][key]:,}"
            for result in (grey, colour)
            for key in ("num_parameters", "multiply_adds")
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {len(colour['stages']) - 1} |")
    lines += ["", "With a head of ten classes and all settings at their defaults."]
    write_block(PAGE, "networks", lines)


def row_of(pictures: Mapping[str, Tensor], name: str, **look: object) -> None:
    """Maps (H, W) beside each other, in one file of docs/blocks."""
    figure = Figure(figsize=(1.35 * len(pictures), 1.6), layout="constrained")
    for axes, (title, maps) in zip(
        np.atleast_1d(figure.subplots(1, len(pictures))), pictures.items(), strict=True
    ):
        axes.imshow(maps.detach(), **{"cmap": "gray", **look})
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    write_figure(figure, DOCS / "blocks" / f"{name}.png", "png")


def digit() -> Tensor:
    """One of scikit-learn's digits, float32 (1, 1, 8, 8)."""
    return torch.from_numpy(load_images("digits").images[:1]).float() / 255


def draw_activations() -> None:
    """Every activation, and in grey its derivative."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 6).flat, ACTIVATIONS, strict=False):
        values = torch.linspace(-3, 3, 241, requires_grad=True)
        # Maxout takes the larger of two channels: here those are x and -x / 2.
        given = torch.stack([values, -values / 2], dim=1) if name == "maxout" else values
        found = activation(name)(given).flatten()
        (slope,) = torch.autograd.grad(found.sum(), values)
        axes.plot(values.detach(), slope, color=GREY, linewidth=1)
        axes.plot(values.detach(), found.detach(), color=BLUE)
        axes.set_title("maxout of x, −x/2" if name == "maxout" else name, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in figure.axes[len(ACTIVATIONS) :]:
        axes.remove()
    write_figure(figure, DOCS / "blocks" / "activations.svg", "svg")


def draw_norms() -> None:
    """Which values share a mean with the one in the middle: images down, channels across."""
    shared = {}
    for name in NORMS:
        values = torch.randn(8, 32, 2, 2, generator=torch.Generator().manual_seed(0))
        values.requires_grad_()
        (slope,) = torch.autograd.grad(map_norm(name, 32)(values)[3, 13, 0, 0], values)
        shared[name] = (slope.abs().sum(dim=(2, 3)) > 1e-6).float()
    row_of(shared, "norms", cmap="Blues", vmin=0, vmax=1.4, aspect="auto")


def draw_dropout() -> None:
    """What is left of ones: a column an image, in it four maps of nine units below each other."""
    left = {}
    for name in DROPOUTS:
        torch.manual_seed(3)
        layer = dropout(name, 0.5).train()
        ones = layer(torch.ones(8, 4, 3, 3))  # images, maps, units
        left[name] = ones.flatten(1).T
    row_of(left, "dropout", cmap="Blues", vmin=0, vmax=2.5, aspect="auto")


def draw_initialisation() -> None:
    """The deviation of what comes out of 20 layers of 256 rectifiers."""
    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.subplots()
    for how in ("xavier", "kaiming", "orthogonal", 0.01, 0.2):
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(500, 256, generator=generator)
        deviations = []
        for _ in range(20):
            layer = empty_linear(256, 256)
            initialise(layer, how, generator)
            values = layer(values).relu()
            deviations.append(float(values.detach().std()))
        label = how if isinstance(how, str) else f"normal, {how}"
        axes.plot(range(1, 21), deviations, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("layer", fontsize=8)
    axes.set_ylabel("deviation", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(frameon=False, fontsize=7)
    write_figure(figure, DOCS / "blocks" / "initialisation.svg", "svg")


def draw_convolutions() -> None:
    """Which of 9 × 9 pixels, over all maps, a value in the middle of the output looks at."""
    kinds = {
        "3 × 3": {},
        "1 × 1": {"kernel_size": 1},
        "stride 2": {"stride": 2, "floor": True},
        "dilation 2": {"dilation": 2},
        "depthwise\nseparable": {"kind": "depthwise_separable"},
        "transposed,\nstride 2": {"kind": "transposed", "stride": 2},
    }
    seen = {}
    for title, settings in kinds.items():
        unit = ConvolutionUnit(2, 2, norm="none", activation_name="linear", **settings)
        initialise(unit, "kaiming", torch.Generator().manual_seed(0))
        maps = torch.zeros(1, 2, 9, 9, requires_grad=True)
        made = unit(maps)
        middle = made.shape[2] // 2
        (slope,) = torch.autograd.grad(made[0, 0, middle, middle], maps)
        seen[title] = (slope[0].abs().sum(dim=0) > 0).float()
    row_of(seen, "convolutions", cmap="Blues", vmin=0, vmax=1.4)


def draw_pooling() -> None:
    """Every pooling of a digit."""
    pooled = {name: pooling(name)(digit()) for name in POOLINGS}
    shown = {"image": digit()[0, 0]}
    for name, maps in pooled.items():
        shown[name.replace("_", "\n")] = maps.reshape(1, 1) if maps.ndim == 2 else maps[0, 0]
    row_of(shown, "pooling", vmin=0, vmax=1)


def draw_upsampling() -> None:
    """A digit halved by max pooling and doubled again; transposed with weights of one half."""
    small = pooling("max")(digit())
    shown = {"halved": small[0, 0]}
    for name in UPSAMPLINGS:
        layer = upsampling(name, 1)
        for weight in layer.parameters():
            torch.nn.init.constant_(weight, 0.5 if weight.ndim > 1 else 0.0)
        shown[name] = layer(small)[0, 0]
    row_of(shown, "upsampling", vmin=0, vmax=1)


def draw_attention() -> None:
    """Sinusoidal positions: tokens down, features across."""
    row_of({"64 tokens, 64 features": sinusoidal_positions(64, 64)}, "positions", cmap="coolwarm")


def draw_filters() -> None:
    """Every filter on one of scikit-learn's digits."""
    shown = {"image": digit()[0, 0]}
    row_of(shown | {name: FixedFilter(name)(digit())[0, 0] for name in FILTERS}, "filters")


PICTURES: tuple[Callable[[], None], ...] = (
    draw_networks,
    draw_activations,
    draw_norms,
    draw_dropout,
    draw_initialisation,
    draw_convolutions,
    draw_pooling,
    draw_upsampling,
    draw_attention,
    draw_filters,
)

if __name__ == "__main__":
    for picture in PICTURES:
        picture()
