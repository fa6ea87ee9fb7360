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
from torch import Tensor

import fewlabels
from fewlabels.config import to_values
from fewlabels.contracts import ImageShape
from fewlabels.data.batches import as_tensor, to_float
from fewlabels.errors import FewlabelsError, RunError
from fewlabels.evaluation.baseline_task import BaselineTask
from fewlabels.evaluation.baselines import FittedBaseline, fit_to
from fewlabels.evaluation.predict import Views, predict_probabilities
from fewlabels.files import make_folder, write_bytes, write_json
from fewlabels.networks import network_settings
from fewlabels.networks.classifier import Classifier, is_fully_connected, num_parameters
from fewlabels.runs.run_folder import read_json
from fewlabels.training.device import Compute, keep_freed_memory

FORMAT = 1

_IMAGES_AT_ONCE = 1_024


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

    def state(self) -> dict[str, Tensor]:
        """What the file of weights holds."""
        found = self.classifier.state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    def description(self) -> dict[str, Any]:
        """What it takes to build the model that the weights fit."""
        return {
            "network": to_values(self.network),
            "logit_norm": self.classifier.logit_norm_name,
        }

    def facts(self) -> dict[str, Any]:
        """The part ``network`` of ``result.json``."""
        return {
            "name": self.network.name,
            "num_parameters": num_parameters(self.classifier),
            "fully_connected_only": is_fully_connected(self.classifier),
        }


@dataclass(frozen=True)
class BaselineModel:
    """A baseline where no network did better; its file holds the labelled pixels it is fitted to.

    Attributes:
        baseline: the fitted classifier.
        image_shape: (C, H, W) that it takes.
        class_names: K names.
    """

    baseline: FittedBaseline
    image_shape: ImageShape
    class_names: tuple[str, ...]

    def predict(
        self, images: npt.NDArray[Any], compute: Compute, views: Views | None = None
    ) -> npt.NDArray[Any]:
        """Class probabilities (N, K) of images (N, C, H, W), averaged over views of each."""
        count = len(self.class_names)
        if views is None:
            return self.baseline.predict_probabilities(images, count)
        parts = []
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            shown = views(to_float(as_tensor(images[start : start + _IMAGES_AT_ONCE])))
            found = [self.baseline.predict_probabilities(view.numpy(), count) for view in shown]
            parts.append(np.mean(found, axis=0))
        return np.concatenate(parts) if parts else np.zeros((0, count))

    def state(self) -> dict[str, Tensor]:
        """The labelled pixels, the labels, and the principal axes where they are used."""
        arrays = self.baseline.task.arrays()
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}

    def description(self) -> dict[str, Any]:
        """Which baseline it is."""
        return {"baseline": self.baseline.name}

    def facts(self) -> dict[str, Any]:
        """The part ``network`` of ``result.json``."""
        numbers = sum(array.size for array in self.baseline.task.arrays().values())
        return {
            "name": self.baseline.name,
            "num_parameters": numbers,
            "fully_connected_only": False,
        }


AnyModel = Model | BaselineModel


def save_model(folder: Path, model: AnyModel, facts: Mapping[str, Any]) -> None:
    """Write ``weights.safetensors`` and ``model.json`` into `folder`.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    make_folder(folder)
    write_bytes(folder / "weights.safetensors", save(model.state()))
    description = {
        "format": FORMAT,
        "fewlabels": fewlabels.__version__,
        **model.description(),
        "image_shape": list(model.image_shape),
        "class_names": list(model.class_names),
        "pixels": "divide by 255; statistics to standardise by are among the weights",
        **facts,
    }
    write_json(folder / "model.json", description)


def load_model(folder: Path) -> AnyModel:
    """Read a saved model; no code from the files is run.

    Raises:
        RunError: files are missing, damaged or of another version.
    """
    description = folder / "model.json"
    if (folder.parent / "pretext").is_dir():
        raise RunError(
            f"The run {folder.parent} has pretrained an encoder, which tells no classes yet. Make "
            f"a classifier of it with: fewlabels fit DATA --encoder {folder.parent}"
        )
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
        channels, height, width = facts["image_shape"]
        names = tuple(str(name) for name in facts["class_names"])
        state = load_file(folder / "weights.safetensors")
        if "baseline" in facts:
            return _baseline_model(str(facts["baseline"]), state, (channels, height, width), names)
        network = network_settings(facts["network"])
        weights = torch.Generator().manual_seed(0)
        encoder = network.build((channels, height, width), weights)
        logit_norm = str(facts.get("logit_norm", "none"))  # absent in older files
        classifier = Classifier(encoder, len(names), weights, logit_norm)
        classifier.load_state_dict(state)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, FewlabelsError) and not isinstance(error, ValueError):
            raise
        raise RunError(f"The model {folder} cannot be read: {error}. Fit again.") from error
    return Model(classifier.eval(), network, (channels, height, width), names)


def _baseline_model(
    name: str, state: Mapping[str, Tensor], shape: ImageShape, class_names: tuple[str, ...]
) -> BaselineModel:
    arrays = {key: value.numpy() for key, value in state.items()}
    task = BaselineTask.restored(arrays)
    if not ((task.labels >= 0) & (task.labels < len(class_names))).all():
        raise ValueError("it holds labels of classes that it does not name")
    return BaselineModel(fit_to(task, name), shape, class_names)


def sorted_by_confidence(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Positions from the most to the least confident prediction."""
    return np.argsort(-probabilities.max(axis=1), kind="stable")
