"""Checkpoints: tensors and numbers in one safetensors file, written in one step.

No pickle: a checkpoint from a stranger can hold wrong numbers, but no program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewlabels.errors import RunError
from fewlabels.files import write_bytes

FORMAT = 1


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts atomically.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    # safetensors refuses tensors that share memory or are not contiguous.
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"facts": json.dumps({"format": FORMAT, **facts})}
    write_bytes(path, save(ready, metadata=metadata))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what `save_checkpoint` wrote.

    Raises:
        RunError: the file is damaged or from another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {})["facts"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise RunError(
            f"The checkpoint {path} cannot be read ({error}). Delete it; its phase starts anew."
        ) from error
    if facts.pop("format", None) != FORMAT:
        raise RunError(
            f"The checkpoint {path} was written by another version of fewlabels. "
            "Start a new run with this version."
        )
    return tensors, facts


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn errors of putting a checkpoint's content into place into a `RunError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"The checkpoint {path} does not fit the settings of this run. Undo the change of "
            "config.toml, or delete the checkpoint; its phase starts anew."
        ) from error


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The running averages of optimisers as flat names, ``optimiser/main/3/exp_avg``."""
    return {
        f"optimiser/{name}/{index}/{key}": value
        for name, optimiser in optimisers.items()
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimisers(
    optimisers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Give optimisers their running averages back; learning rates follow the schedule anyway."""
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            kind, *rest = path.split("/")
            if kind == "optimiser" and rest[0] == name:
                state.setdefault(int(rest[1]), {})[rest[2]] = tensor
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
