"""What a network costs, stage by stage, before it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from fewlabels.contracts import Encoder
from fewlabels.networks.receptive_field import WHOLE, Axis, Field, after

_BYTES = 4  # of a value in float32

_FUSED_LSTM = "mkldnn_rnn_layer"
_VALUES_OF_AN_LSTM = 6
"""Kept for each unit and step, though only one is given out: the state, the memory, four gates."""


@dataclass(kw_only=True)
class StageSummary:
    """One stage of a network, for one image.

    Attributes:
        name: of its modules.
        output_shape: of what comes out of it, without the batch.
        num_parameters: trainable and frozen.
        multiply_adds: of the products; additions alone are not counted.
        activation_bytes: of all that is computed in it and kept for the gradient, in float32.
        field: of the image that one value of its output depends on, rows and columns.
    """

    name: str
    output_shape: tuple[int, ...] = ()
    num_parameters: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0
    field: Field = field(default_factory=lambda: (Axis(), Axis()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; an infinite field, which is the whole image, is None."""
        return {
            "name": self.name,
            "output_shape": list(self.output_shape),
            "num_parameters": self.num_parameters,
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "receptive_field": [
                None if math.isinf(axis.size) else vars(axis) for axis in self.field
            ],
        }


def summarise(encoder: Encoder, head: nn.Module | None = None) -> list[StageSummary]:
    """Every stage of an encoder, from input to output, and the head as the last one.

    Args:
        encoder: left in the mode that it was in.
        head: from features to logits; None for none.
    """
    groups = encoder.stages()
    if head is not None:
        groups = [*groups, [head]]
    names = stage_names(encoder) + ["head"] * (head is not None)
    image = torch.zeros(1, *encoder.image_shape)

    def run() -> None:
        features = encoder(image)
        if head is not None:
            head(features)

    with _evaluating(encoder):
        return _booked(names, groups, run, {image: (Axis(), Axis())})


def summarise_decoder(decoder: nn.Module, given: Any) -> list[StageSummary]:
    """Every part of a decoder, for one image.

    Args:
        decoder: left in the mode that it was in.
        given: what it decodes, for one image: features, or whatever its encoder's levels are.
    """
    parts: list[tuple[str, nn.Module]] = []
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            parts += [(f"{name}.{key}", part) for key, part in child.named_children()]
        else:
            parts.append((name, child))
    parts = [(name, part) for name, part in parts if list(part.parameters())]
    # Each value of it depends on all that was looked at.
    known = {leaf: (WHOLE, WHOLE) for leaf in tree_leaves(given) if isinstance(leaf, Tensor)}
    with _evaluating(decoder):
        names = [f"decoder: {name}" for name, _ in parts]
        return _booked(names, [[part] for _, part in parts], lambda: decoder(given), known)


def _booked(
    names: Sequence[str],
    groups: Sequence[Sequence[nn.Module]],
    run: Callable[[], Any],
    fields: Mapping[Tensor, Field],
) -> list[StageSummary]:
    """Run something, and book what its groups of modules do.

    Args:
        names: of the groups.
        groups: of modules, in the order of the way through.
        run: the forward pass.
        fields: of the tensors that it starts from.
    """
    stages = [StageSummary(name=name) for name in names]
    for stage, group in zip(stages, groups, strict=True):
        parameters = {p for module in group for p in module.parameters()}
        stage.num_parameters = sum(p.numel() for p in parameters)
    recorder = _Recorder(stages, fields)
    with torch.no_grad(), ExitStack() as hooks:
        for number, group in enumerate(groups):
            for module in group:
                recorder.follow(hooks, module, number)
        hooks.enter_context(recorder)
        run()
    return stages


def stage_names(encoder: Encoder) -> list[str]:
    """What the modules of each stage are called inside the encoder, from input to output."""
    wrapped = "module."  # of another library's network inside ours
    names = {module: name.removeprefix(wrapped) for name, module in encoder.named_modules()}
    return [
        _name([names[part] for part in stage if part in names and list(part.parameters())])
        for stage in encoder.stages()
    ]


def _name(found: list[str]) -> str:
    """Neighbours in one container are named by the first and the last."""
    containers = {name.rpartition(".")[0] for name in found}
    if len(found) > 1 and len(containers) == 1 and "." in found[0]:
        return f"{found[0]}–{found[-1].rpartition('.')[2]}"
    return ", ".join(found)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a forward pass, and books it on the stage that is being run."""

    def __init__(self, stages: list[StageSummary], fields: Mapping[Tensor, Field]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stages = stages
        self.current = 0
        self.fields: Any = WeakIdKeyDictionary()
        for tensor, found in fields.items():
            self.fields[tensor] = found

    def follow(self, hooks: ExitStack, module: nn.Module, number: int) -> None:
        """Note when `module` of stage `number` starts, and what comes out of it."""

        def starts(*_: Any) -> None:
            self.current = number

        def ends(_: nn.Module, __: Any, outputs: Any) -> None:
            output = next(leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
            stage = self.stages[number]
            stage.output_shape = tuple(output.shape[1:])
            stage.field = self.fields.get(output, stage.field)

        hooks.callback(module.register_forward_pre_hook(starts).remove)
        hooks.callback(module.register_forward_hook(ends).remove)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and book it."""
        outputs = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        inputs = [(tensor, self.fields[tensor]) for tensor in tensors if tensor in self.fields]
        if not inputs or not made:
            return outputs
        name = func.overloadpacket.__name__
        found = after(name, inputs, args, made[0])
        for tensor in made:
            self.fields[tensor] = found
        stage = self.stages[self.current]
        stage.multiply_adds += _multiply_adds(func, args, kwargs or {}, outputs)
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        if made[0].untyped_storage().data_ptr() not in known:
            values = made[0].numel()
            if name == _FUSED_LSTM:
                values *= _VALUES_OF_AN_LSTM
            stage.activation_bytes += values * _BYTES
        return outputs


def _multiply_adds(func: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> int:
    """By torch's own table, which counts a multiplication and an addition as two."""
    packet = func.overloadpacket
    if "scaled_dot_product" in packet.__name__:
        query, key, value = args[:3]
        shapes = (query.shape, key.shape, value.shape)
        return int(sdpa_flop_count(*shapes)) // 2  # type: ignore[no-untyped-call]
    if packet.__name__ == _FUSED_LSTM:  # a whole layer in one kernel, rows first
        steps, weights = args[0].shape[0] * args[0].shape[1], args[1:3]
        return int(steps * sum(weight.numel() for weight in weights))
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=outputs)) // 2
    return 0
