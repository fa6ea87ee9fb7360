"""What a pretraining run leaves behind: an encoder to make classifiers of, and what drew images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

import fewlabels
from fewlabels.config import build_named, to_values
from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError, RunError
from fewlabels.files import make_folder, write_bytes, write_json
from fewlabels.networks import network_settings
from fewlabels.pretext import PRETEXTS
from fewlabels.pretext.objective import Pretext
from fewlabels.runs.run_folder import open_run, read_json
from fewlabels.workflows.pretraining import Pretrained
from fewlabels.workflows.settings import Settings

FORMAT = 1
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Artefact:
    """A trained pretext objective, in evaluation mode.

    Attributes:
        run: the run folder.
        objective: with its encoder.
        network: settings of the encoder.
        image_shape: (C, H, W).
    """

    run: Path
    objective: Pretext
    network: Any
    image_shape: ImageShape

    @property
    def name(self) -> str:
        """Of the objective."""
        return str(self.objective.config.name)


def save_artefact(
    run: Path, settings: Settings, pretrained: Pretrained, image_shape: ImageShape
) -> None:
    """Write ``pretext/`` and ``encoder/`` of a run.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    pretext, encoder = make_folder(run / "pretext"), make_folder(run / "encoder")
    write_bytes(encoder / _WEIGHTS, save(_state(pretrained.encoder)))
    write_bytes(pretext / _WEIGHTS, save(_state(pretrained.objective)))
    description = {
        "format": FORMAT,
        "fewlabels": fewlabels.__version__,
        "network": to_values(settings.network),
        "pretext": to_values(settings.pretext),
        "image_shape": list(image_shape),
    }
    # Last, as it says that the others are there.
    write_json(pretext / "pretext.json", description)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }


def load_artefact(run: Path) -> Artefact:
    """Read what a pretraining run has left; no code from the files is run.

    Raises:
        RunError: no such run, no pretraining run, or one of another version.
    """
    folder = open_run(run)
    description = folder.path / "pretext" / "pretext.json"
    if not description.is_file():
        raise RunError(
            f"The run {run} holds no pretrained encoder. Make one with: fewlabels pretrain DATA. "
            f"An interrupted run goes on with: fewlabels resume {run}"
        )
    facts = read_json(description)
    if facts.get("format") != FORMAT:
        raise RunError(
            f"The encoder in {run} was written by another version of fewlabels. Pretrain again, or "
            "install the version that pretext.json names."
        )
    try:
        channels, height, width = (int(side) for side in facts["image_shape"])
        network = network_settings({**facts["network"], "weights": "none"})
        pretext = build_named(PRETEXTS, facts["pretext"], "pretext", "pretext objective")
        weights = torch.Generator().manual_seed(0)
        encoder = network.build((channels, height, width), weights)
        objective: Pretext = pretext.build(encoder, network, weights)
        objective.load_state_dict(load_file(folder.path / "pretext" / _WEIGHTS))
    except (
        KeyError,
        TypeError,
        ValueError,
        OSError,
        RuntimeError,
        SafetensorError,
        ConfigError,
    ) as error:
        raise RunError(f"The encoder in {run} cannot be read: {error}. Pretrain again.") from error
    return Artefact(folder.path, objective.eval(), network, (channels, height, width))
