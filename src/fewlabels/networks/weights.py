"""Weights to start from: files and the libraries' own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewlabels.contracts import Encoder
from fewlabels.errors import ConfigError
from fewlabels.networks.pretrained import Pretrained, hub_weights

_SHOWN = 5
_WRAPPER = "module."


def load_initial(encoder: Encoder, network: Any) -> None:
    """Load what ``network.weights`` names into a new encoder; nothing where it is "none".

    Raises:
        ConfigError: the file is none, or holds weights of another architecture.
        DownloadError: the library's own cannot be had.
    """
    weights = network.weights
    if weights == "none":
        return
    if weights == "hub" and not isinstance(encoder, Pretrained):
        raise ConfigError(
            f"Weights from a hub belong to networks of other libraries; {network.name} is none. "
            "Write for example network.name = torchvision:resnet18, or name a file of weights."
        )
    state = hub_weights(network.model) if weights == "hub" else read_weights(Path(weights))
    load_state(encoder, state, weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A safetensors file, or a state dict that torch has saved; no code in it is run.

    Raises:
        ConfigError: no such file, or neither of the two.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file of weights {path}. Check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch wonders about files that are none of its own
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file ends in almost any of them
        raise ConfigError(
            f"{path} is no file of weights that can be read without running code in it. Allowed: "
            "safetensors, or a state dict saved by torch.save(model.state_dict(), …)."
        ) from None
    state = found.get("state_dict", found.get("model", found)) if isinstance(found, dict) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ConfigError(
            f"{path} holds no state dict, from names to tensors. Save one by "
            "torch.save(model.state_dict(), …)."
        )
    return _without_wrapper(dict(state))


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names as they were before a network was spread over several devices."""
    if state and all(name.startswith(_WRAPPER) for name in state):
        return {name.removeprefix(_WRAPPER): value for name, value in state.items()}
    return state


def load_state(encoder: Encoder, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights into an encoder; those of the head that they may come with are left out.

    Args:
        encoder: gets the weights; its way to standardise pixels stays where they hold none.
        state: from names to tensors, of this encoder or of the network that it stands for.
        where: they come from, for errors.

    Raises:
        ConfigError: they belong to another architecture.
    """
    heads = tuple(f"{key}." for key in getattr(encoder, "head_keys", ()))
    prefix = "module." if isinstance(encoder, Pretrained) else ""
    ours = encoder.state_dict()
    given = {}
    for name, value in state.items():
        if heads and name.startswith(heads):
            continue
        given[name if name in ours else prefix + name] = value
    missing = [
        name
        for name in ours
        # Old files do not count batches, and torch takes them nevertheless.
        if name not in given
        and not name.startswith("standardise.")
        and not name.endswith(".num_batches_tracked")
    ]
    unexpected = [name for name in given if name not in ours]
    shapes = [
        f"{name} is {tuple(value.shape)} instead of {tuple(ours[name].shape)}"
        for name, value in given.items()
        if name in ours and value.shape != ours[name].shape
    ]
    problems = [
        f"{what}: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise ConfigError(
            f"The weights {where} do not fit this network ({'; '.join(problems)}). "
            "Choose the network that they were trained with."
        )
    encoder.load_state_dict({**ours, **given})
