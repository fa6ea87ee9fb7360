"""The health of activations and gradients, stage by stage, while a network trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.contracts import Encoder
from fewlabels.networks.summary import stage_names

STEPS_BETWEEN = 10
"""Looking costs time, so only one step in so many is looked at."""

PREFIX = "watch"


class Watch:
    """Looks at the stages of an objective's first encoder.

    Of each stage: mean and deviation of what comes out of it, the share of units that were never
    above zero in an epoch ("dead": a rectifier before them passes no gradient back), and the length
    of the gradient on its weights.

    Args:
        objective: that holds the encoder; one without an encoder is watched in vain.
        enabled: False does nothing.
    """

    def __init__(self, objective: nn.Module, enabled: bool) -> None:
        found = [part for part in objective.modules() if isinstance(part, Encoder)]
        encoder = found[0] if found and enabled else None
        self._stages = encoder.stages() if encoder is not None else []
        self._names = stage_names(encoder) if encoder is not None else []
        self._sums: dict[str, float] = defaultdict(float)
        self._alive: dict[int, Tensor] = {}
        self._steps = 0

    @contextmanager
    def looking(self, position: int) -> Iterator[None]:
        """Within the block, which is a step's forward pass, outputs of stages are looked at."""
        if not self._stages or position % STEPS_BETWEEN:
            yield
            return
        latest: dict[int, Tensor] = {}
        hooks = []
        for number, stage in enumerate(self._stages):
            for module in stage:

                def ends(_: nn.Module, __: Any, outputs: Any, number: int = number) -> None:
                    output = outputs[0] if isinstance(outputs, tuple) else outputs
                    if torch.is_grad_enabled() and isinstance(output, Tensor):
                        latest[number] = output.detach()

                hooks.append(module.register_forward_hook(ends))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._steps += 1
        for number, output in latest.items():
            self._note(number, output.float())

    def _note(self, number: int, output: Tensor) -> None:
        name = self._names[number]
        self._sums[f"{name}/mean"] += float(output.mean())
        self._sums[f"{name}/deviation"] += float(output.std())
        # In (B, T, D) and (B, T, D, H, W) the units come after the places in a sequence.
        units = 2 if output.ndim in (3, 5) else 1
        alive = (output.transpose(units, -1).flatten(0, -2) > 0).any(dim=0)
        known = self._alive.get(number)
        self._alive[number] = alive if known is None else known | alive

    def gradients(self, position: int) -> None:
        """After a step's backward pass, before the gradients are taken."""
        if position % STEPS_BETWEEN:
            return
        for name, stage in zip(self._names, self._stages, strict=True):
            gradients = [p.grad for part in stage for p in part.parameters() if p.grad is not None]
            norms = [float(gradient.float().norm()) for gradient in gradients]
            self._sums[f"{name}/gradient"] += sum(norm**2 for norm in norms) ** 0.5

    def row(self) -> dict[str, float]:
        """What was seen since the last time: ``watch/STAGE/QUANTITY``, columns of the history."""
        row = {f"{PREFIX}/{key}": total / max(1, self._steps) for key, total in self._sums.items()}
        for number, alive in self._alive.items():
            row[f"{PREFIX}/{self._names[number]}/dead"] = float((~alive).float().mean())
        self._sums.clear()
        self._alive.clear()
        self._steps = 0
        return row
