"""The saved model: weights without code, and all that is needed to predict with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

import fewlabels
from fewlabels.config import build_named, to_values
from fewlabels.contracts import ImageShape
from fewlabels.errors import FewlabelsError, RunError
from fewlabels.evaluation.predict import Views, predict_probabilities
from fewlabels.files import make_folder, write_bytes, write_json
from fewlabels.networks import NETWORKS
from fewlabels.networks.classifier import Classifier
from fewlabels.runs.run_folder import read_json
from fewlabels.training.device import Compute, keep_freed_memory

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A classifier with what its numbers mean.

    Attributes:
        classifier: images (B, C, H, W) in [0, 1] to logits (B, K).
        network: settings of the encoder.
        image_shape: (C, H, W) that it takes.
        class_names: K names, by logit.
    """

    classifier: Classifier
    network: Any
    image_shape: ImageShape
    class_names: tuple[str, ...]

    def predict(
        self, images: npt.NDArray[Any], compute: Compute, views: Views | None = None
    ) -> npt.NDArray[Any]:
        """Class probabilities (N, K) of images (N, C, H, W), averaged over views of each."""
        keep_freed_memory()
        return predict_probabilities(
            self.classifier.to(compute.device),
            images,
            device=compute.device,
            precision=compute.precision,
            views=views,
        )


def save_model(folder: Path, model: Model, facts: Mapping[str, Any]) -> None:
    """Write ``weights.safetensors`` and ``model.json`` into `folder`.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    make_folder(folder)
    state = {k: v.detach().cpu().contiguous() for k, v in model.classifier.state_dict().items()}
    write_bytes(folder / "weights.safetensors", save(state))
    description = {
        "format": FORMAT,
        "fewlabels": fewlabels.__version__,
        "network": to_values(model.network),
        "image_shape": list(model.image_shape),
        "class_names": list(model.class_names),
        "pixels": "divide by 255; the network standardises by statistics among its weights",
        **facts,
    }
    write_json(folder / "model.json", description)


def load_model(folder: Path) -> Model:
    """Read a saved model; no code from the files is run.

    Raises:
        RunError: files are missing, damaged or of another version.
    """
    description = folder / "model.json"
    if not description.is_file():
        raise RunError(
            f"There is no finished model in {folder.parent}. "
            f"Finish the run with: fewlabels resume {folder.parent}"
        )
    facts = read_json(description)
    if facts.get("format") != FORMAT:
        raise RunError(
            f"The model {folder} was written by another version of fewlabels. "
            "Fit again, or install the version that model.json names."
        )
    try:
        network = build_named(NETWORKS, facts["network"], "network", "network")
        channels, height, width = facts["image_shape"]
        names = tuple(str(name) for name in facts["class_names"])
        weights = torch.Generator().manual_seed(0)
        encoder = network.build((channels, height, width), weights)
        classifier = Classifier(encoder, len(names), weights)
        classifier.load_state_dict(load_file(folder / "weights.safetensors"))
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, FewlabelsError) and not isinstance(error, ValueError):
            raise
        raise RunError(f"The model {folder} cannot be read: {error}. Fit again.") from error
    return Model(classifier.eval(), network, (channels, height, width), names)


def sorted_by_confidence(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Positions from the most to the least confident prediction."""
    return np.argsort(-probabilities.max(axis=1), kind="stable")
