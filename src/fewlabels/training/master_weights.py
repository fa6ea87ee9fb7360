"""Weights in bfloat16 where they are multiplied, in float32 where they are kept and updated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fewlabels.contracts import ParameterGroup

_MULTIPLIED = (nn.Linear, _ConvNd)


class MasterWeights:
    """The float32 masters of an objective's matrices and kernels.

    Outside of `lowered` the objective holds the masters themselves, so that evaluation, checkpoints
    and averaged copies see float32. Inside, it holds their bfloat16 copies; the optimiser works on
    the masters all the time. Norms keep float32 weights and statistics throughout.

    Source: Mixed Precision Training (Micikevicius et al., 2018), section 3.1.

    Args:
        objective: on its device.
        enabled: False keeps everything in float32, and all methods do nothing.
    """

    def __init__(self, objective: nn.Module, enabled: bool) -> None:
        self._objective = objective
        self._masters: dict[nn.Parameter, nn.Parameter] = {}
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._low: dict[nn.Parameter, Tensor] = {}
        for module in objective.modules() if enabled else ():
            if isinstance(module, _MULTIPLIED):
                for weight in module.parameters(recurse=False):
                    self._masters[weight] = nn.Parameter(weight.data)
                    self._low[weight] = weight.data.to(torch.bfloat16)

    def groups(self, groups: Mapping[str, list[ParameterGroup]]) -> dict[str, list[ParameterGroup]]:
        """The same groups with masters in the place of their weights, for the optimisers."""
        return {
            name: [
                replace(group, parameters=[self._masters.get(p, p) for p in group.parameters])
                for group in named
            ]
            for name, named in groups.items()
        }

    def parameters(self) -> list[nn.Parameter]:
        """What the optimisers may change now, in float32: frozen weights are left out."""
        return [
            self._masters.get(weight, weight)
            for weight in self._objective.parameters()
            if weight.requires_grad
        ]

    @contextmanager
    def lowered(self) -> Iterator[None]:
        """Within the block, the objective holds bfloat16 weights."""
        self.spread()
        self._hold(self._low)
        try:
            yield
        finally:
            self._hold({weight: master.data for weight, master in self._masters.items()})

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Within a block inside of `lowered`, the objective holds the masters again.

        At its end they are rounded into the bfloat16 weights anew.
        """
        self._hold({weight: master.data for weight, master in self._masters.items()})
        try:
            yield
        finally:
            self.spread()
            self._hold(self._low)

    def take_gradients(self) -> None:
        """Hand the gradients of the bfloat16 weights to the masters, in float32."""
        for weight, master in self._masters.items():
            if weight.grad is None:
                master.grad = None
                continue
            # One buffer for the whole training: a new one each step would be cold memory.
            buffer = self._gradients.get(weight)
            if buffer is None:
                buffer = self._gradients[weight] = torch.empty_like(master.data)
            master.grad = buffer.copy_(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def spread(self) -> None:
        """Round the masters into the bfloat16 weights."""
        for weight, master in self._masters.items():
            self._low[weight].copy_(master.data)

    def _hold(self, tensors: Mapping[nn.Parameter, Tensor]) -> None:
        for weight, tensor in tensors.items():
            weight.grad = None
            weight.data = tensor
