"""Convolutional LSTM: an image read strip by strip, with maps for a memory."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import Initialisation, empty_convolution, initialise
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig


@dataclass(frozen=True, kw_only=True, config=RULES)
class ConvLSTMConfig(ConvolutionalConfig):
    """Settings of the convolutional LSTM."""

    name: Literal["conv_lstm"] = "conv_lstm"
    # Strips that the image is cut into, from top to bottom; the last one may be filled up.
    strips: PositiveInt = 4
    # Maps of each layer.
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64), min_length=1)
    kernel_size: Literal[1, 3, 5, 7] = 3
    initialisation: Initialisation = "xavier"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> ConvLSTM:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return ConvLSTM(self, image_shape, generator)


class Cell(nn.Module):
    """An LSTM whose products with matrices are convolutions; without peepholes."""

    def __init__(self, inputs: int, width: int, kernel_size: int) -> None:
        super().__init__()
        self.width = width
        self.gates = empty_convolution(
            inputs + width, 4 * width, kernel_size, padding=kernel_size // 2
        )

    def forward(self, strips: Tensor) -> Tensor:
        """Strips (B, T, C, H, W) to states (B, T, D, H, W)."""
        count, _, _, height, width = strips.shape
        state = strips.new_zeros(count, self.width, height, width)
        memory = torch.zeros_like(state)
        states = []
        for strip in strips.unbind(1):
            enter, forget, leave, new = self.gates(torch.cat([strip, state], dim=1)).chunk(4, dim=1)
            memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
            state = leave.sigmoid() * memory.tanh()
            states.append(state)
        return torch.stack(states, dim=1)


class ConvLSTM(Encoder):
    """Layers of cells over the strips; the mean of the last state is what is known of the image.

    Source: Convolutional LSTM Network (Shi et al., 2015).
    """

    def __init__(
        self, config: ConvLSTMConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, height, _ = image_shape
        self.image_shape = image_shape
        self.num_features = 2 * config.widths[-1]
        self.standardise = Standardise(image_shape)
        self.rows = -(-height // min(config.strips, height))
        sizes = [channels, *config.widths]
        self.layers = nn.ModuleList(
            Cell(inputs, width, config.kernel_size)
            for inputs, width in zip(sizes, config.widths, strict=False)
        )
        initialise(self, config.initialisation, generator)
        for layer in self.layers:
            assert isinstance(layer, Cell)
            assert layer.gates.bias is not None
            # It starts with forgetting little (Jozefowicz et al., 2015).
            layer.gates.bias.data[layer.width : 2 * layer.width] = 1.0

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the last state, (B, D / 2, rows of a strip, W)."""
        pixels = self.standardise(images)
        missing = -pixels.shape[2] % self.rows
        strips = torch.unflatten(F.pad(pixels, (0, 0, 0, missing)), 2, (-1, self.rows))
        states = strips.transpose(1, 2)  # (B, T, C, rows, W)
        for layer in self.layers:
            states = layer(states)
        last: Tensor = states[:, -1]
        return last

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D): means and largest values."""
        maps = self.forward_features(images)
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def stages(self) -> list[list[nn.Module]]:
        """One stage a layer."""
        return [[layer] for layer in self.layers]
