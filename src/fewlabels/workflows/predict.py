"""Using a finished run on other images."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data import load_for_prediction
from fewlabels.data.image_set import NO_LABEL, ImageSet, Problem
from fewlabels.errors import DataError
from fewlabels.evaluation.metrics import evaluate
from fewlabels.files import check_folder_of, write_text
from fewlabels.lookup import find
from fewlabels.progress import say
from fewlabels.runs.run_folder import open_run
from fewlabels.training.device import choose
from fewlabels.workflows.model import AnyModel, load_model
from fewlabels.workflows.views import VIEWS, make_views, run_settings


def predict_run(run: Path, images: str, output: Path, views: str = "auto") -> dict[str, Any]:
    """Classify images and write a CSV file: ``image,label,probability`` and a column per class.

    Args:
        run: a finished run folder.
        images: anything that can be read, one image file, or one IDX image file.
        output: the CSV file; its folder must exist.
        views: "single" for each image as it is, the average over "crops" (ten at each of two
            scales, mirrored ones only where the run mirrors) or over "augmented" views,
            changed as labelled images are in joint training, or "auto" for what the run's settings
            say.

    Returns:
        Number of images, of images skipped, and of images per predicted class.

    Raises:
        RunError: the run has no model.
        DataError: the images cannot be read.
        StorageError: the file cannot be written.
    """
    check_folder_of(output)
    model, data, probabilities = _apply(run, images, views=views)
    best = probabilities.argmax(axis=1)
    write_text(output, _predictions_csv(data.ids, best, probabilities, model.class_names))
    counts = np.bincount(best, minlength=len(model.class_names))
    return {
        "run": str(run),
        "output": str(output),
        "num_images": len(data),
        "num_skipped": len(skipped(data)),
        "problems": [vars(problem) for problem in data.problems[:50]],
        "predicted": dict(zip(model.class_names, counts.tolist(), strict=True)),
    }


def _predictions_csv(
    ids: npt.NDArray[np.str_],
    best: npt.NDArray[np.intp],
    probabilities: npt.NDArray[Any],
    class_names: tuple[str, ...],
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "probability", *class_names])
    for name, label, row in zip(ids.tolist(), best.tolist(), probabilities, strict=True):
        shares = [f"{value:.6f}" for value in row]
        writer.writerow([name, class_names[label], shares[label], *shares])
    return text.getvalue()


def evaluate_run(
    run: Path, source: str, labels: str | None = None, views: str = "auto"
) -> dict[str, Any]:
    """Measure a finished run on other labelled images.

    Raises:
        DataError: no labels, or classes that the model does not know.
    """
    model, data, probabilities = _apply(run, source, labels, views)
    known = np.flatnonzero(data.labels != NO_LABEL)
    if not len(known):
        raise DataError(f"{source} has no labelled images, so there is nothing to compare with.")
    unknown = sorted(set(data.class_names) - set(model.class_names))
    if unknown:
        raise DataError(
            f"{source} has the class {unknown[0]!r}, which the model does not know. "
            f"It knows: {', '.join(model.class_names)}."
        )
    to_model = np.array([model.class_names.index(name) for name in data.class_names])
    evaluation = evaluate(probabilities[known], to_model[data.labels[known]], model.class_names)
    return {"run": str(run), "source": source, **evaluation.to_dict()}


def skipped(data: ImageSet) -> list[Problem]:
    """The files that could not be read as images."""
    return [problem for problem in data.problems if problem.kind in ("broken", "too_large")]


def _apply(
    run: Path, source: str, labels: str | None = None, views: str = "auto"
) -> tuple[AnyModel, ImageSet, npt.NDArray[Any]]:
    if views != "auto":
        find(VIEWS, views, "kind of views")  # before anything that takes long
    folder = open_run(run)
    model = load_model(folder.model)
    settings = run_settings(folder)
    data = load_for_prediction(source, model.image_shape, labels=labels)
    if not len(data):
        raise DataError(f"No image in {source} could be read; nothing to predict.")
    left_out = skipped(data)
    if left_out:
        say(f"{len(left_out)} files were skipped, first: {left_out[0].where}.")
    compute = choose(settings.run.device, settings.run.precision)
    return model, data, model.predict(data.images, compute, make_views(settings, model, views))
