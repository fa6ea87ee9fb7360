"""The layers that joint-embedding objectives put on the encoder and throw away afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from fewlabels.blocks.initialisation import empty_linear, initialise


def projection(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers through `sizes`, with batch norm and a rectifier between them."""
    layers = nn.Sequential()
    steps = list(pairwise(sizes))
    for number, (inputs, outputs) in enumerate(steps, start=1):
        is_last = number == len(steps)
        layers.append(empty_linear(inputs, outputs, bias=is_last))
        if not is_last:
            layers.append(nn.BatchNorm1d(outputs))
            layers.append(nn.ReLU())
    initialise(layers, "kaiming", generator)
    return layers
