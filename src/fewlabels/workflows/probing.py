"""Looking at an encoder and its drawings while they are trained."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fewlabels.contracts import Encoder
from fewlabels.evaluation.predict import extract_features
from fewlabels.evaluation.probe import probe_features
from fewlabels.files import make_folder, write_bytes
from fewlabels.plots.sheet import image_sheet
from fewlabels.pretext.objective import Generates, Pretext, Reconstructs
from fewlabels.randomness import derive_seed, generator
from fewlabels.runs.run_folder import RunFolder
from fewlabels.training.device import Compute
from fewlabels.workflows.phases import LabelledImages
from fewlabels.workflows.pretraining import reconstruct

_MOST_SHARE = 0.1
"""Of the time so far that looking may take."""

NUM_DRAWN = 16


class Watcher:
    """Probes features and keeps drawings, as often as that takes little time; at first always.

    Args:
        folder: of the run; drawings go to ``samples/``.
        labelled: what the probes learn from and are judged by, in turns; test images are not among
            them.
        shown: uint8 or float32 (M, C, H, W), images that are drawn anew where the objective does
            that.
        compute: where.
        seed: of the folds and of the drawings, which so are always the same ones.
    """

    def __init__(
        self,
        folder: RunFolder,
        labelled: LabelledImages,
        shown: npt.NDArray[Any],
        compute: Compute,
        seed: int,
    ) -> None:
        self.folder = folder
        self.labelled = labelled
        self.shown = shown
        self.compute = compute
        self.seed = seed
        self._started = time.perf_counter()
        self._spent = 0.0
        self._epoch = 0

    def __call__(self, objective: Pretext) -> dict[str, float]:
        """Figures for the history; nothing where it is too early to look again."""
        self._epoch += 1
        now = time.perf_counter()
        if self._spent > _MOST_SHARE * (now - self._started):
            return {}
        found = self.probe(objective.encoder)
        self.draw(objective, self._epoch)
        self._spent += time.perf_counter() - now
        return found

    def probe(self, encoder: Encoder) -> dict[str, float]:
        """Cross-validated accuracies of simple classifiers on the features."""
        images, labels = self.labelled.images, self.labelled.labels
        if not len(labels):
            return {}
        features = extract_features(encoder, images, device=self.compute.device)
        return probe_features(features, labels, derive_seed(self.seed, "probe"))

    def draw(self, objective: Pretext, epoch: int) -> None:
        """Write a picture of what it draws now, where it draws anything."""
        drawn = drawings(objective, self.shown, self.compute, self.seed)
        if drawn is not None:
            path = make_folder(self.folder.path / "samples") / f"{epoch:04d}.png"
            write_bytes(path, image_sheet(drawn, NUM_DRAWN))


@torch.inference_mode()
def drawings(
    objective: Pretext, shown: npt.NDArray[Any], compute: Compute, seed: int
) -> npt.NDArray[np.float32] | None:
    """New images where the objective makes such, else the given ones drawn anew; None for neither.

    Its training mode is restored.
    """
    training = objective.training
    objective.eval()
    try:
        if isinstance(objective, Generates):
            random = generator(seed, "drawings", device=compute.device)
            return objective.generate(NUM_DRAWN, random).float().cpu().numpy()
        if isinstance(objective, Reconstructs):
            return reconstruct(objective, shown[:NUM_DRAWN], compute, seed=seed)
        return None
    finally:
        objective.train(training)
