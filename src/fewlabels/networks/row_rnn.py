"""An image read row by row by a recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.initialisation import Initialisation, draw_weight
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import DecodedConfig

CELLS: dict[str, tuple[Callable[..., nn.RNNBase], int]] = {
    "rnn": (nn.RNN, 1),
    "lstm": (nn.LSTM, 4),
    "gru": (nn.GRU, 3),
}
"""From the name to torch's layer and the number of its gates."""


@dataclass(frozen=True, kw_only=True, config=RULES)
class RowRNNConfig(DecodedConfig):
    """Settings of the network that reads rows."""

    name: Literal["row_rnn"] = "row_rnn"
    # "lstm" forgets and remembers by gates (Hochreiter and Schmidhuber, 1997), "gru" with fewer of
    # them (Cho et al., 2014), "rnn" is Elman's plain one (1990).
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    width: PositiveInt = 128
    layers: PositiveInt = 2
    # Between the layers.
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # Of the weights on rows; those on states are orthogonal in any case.
    initialisation: Initialisation = "xavier"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> RowRNN:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return RowRNN(self, image_shape, generator)


class RowRNN(Encoder):
    """Many to one: rows from top to bottom, and the last state is what is known of the image."""

    def __init__(
        self, config: RowRNNConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, _, width = image_shape
        self.image_shape = image_shape
        self.num_features = config.width
        self.standardise = Standardise(image_shape)
        sizes = [channels * width] + [config.width] * (config.layers - 1)
        self.layers = nn.ModuleList(_recurrent(config, inputs, generator) for inputs in sizes)
        self.dropout = nn.Dropout(config.dropout)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the states after each row, (B, H, D)."""
        states = self.standardise(images).transpose(1, 2).flatten(2)  # (B, H, C · W)
        for number, layer in enumerate(self.layers):
            states = layer(self.dropout(states) if number else states)[0]
        found: Tensor = states
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images)[:, -1]

    def stages(self) -> list[list[nn.Module]]:
        """One stage a layer."""
        return [[layer] for layer in self.layers]


def _recurrent(config: RowRNNConfig, inputs: int, generator: torch.Generator) -> nn.RNNBase:
    """A layer with weights from `generator`.

    Weights on states are orthogonal, so that what is remembered neither grows nor shrinks (Saxe et
    al., 2014); an LSTM starts with forgetting little (Jozefowicz et al., 2015).
    """
    (cell, gates), width = CELLS[config.cell], config.width
    with torch.device("meta"):  # torch's own draws would come from the caller's generator
        empty: Any = cell(inputs, width, batch_first=True)
    layer = empty.to_empty(device="cpu")
    for gate in layer.weight_ih_l0.chunk(gates):
        draw_weight(gate.data, config.initialisation, generator)
    for gate in layer.weight_hh_l0.chunk(gates):
        nn.init.orthogonal_(gate.data, generator=generator)
    nn.init.zeros_(layer.bias_ih_l0)
    nn.init.zeros_(layer.bias_hh_l0)
    if gates == CELLS["lstm"][1]:
        layer.bias_ih_l0.data[width : 2 * width] = 1.0
    recurrent: nn.RNNBase = layer
    return recurrent
