"""Opening the sealed test set, on purpose and on record."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewlabels.data.image_set import ImageSet
from fewlabels.errors import RunError
from fewlabels.evaluation.metrics import evaluate
from fewlabels.evaluation.predict import Views
from fewlabels.evaluation.sealed_test import (
    check_test_set,
    count_openings,
    record_opening,
    warning_for,
)
from fewlabels.files import write_json
from fewlabels.progress import say
from fewlabels.report.report import write_report
from fewlabels.runs.run_folder import RunFolder, open_run, read_json
from fewlabels.training.device import Compute, choose
from fewlabels.workflows.model import AnyModel, load_model
from fewlabels.workflows.prepare import Prepared, prepare
from fewlabels.workflows.views import make_views, run_settings


def test_run(path: Path) -> dict[str, Any]:
    """Evaluate a finished run on its sealed test set and record the opening.

    Returns:
        The run's result with the test figures filled in.

    Raises:
        RunError: the run is unfinished or has no test set.
        DataError: the test images or labels have changed.
    """
    folder = open_run(path)
    folder.read_result()
    model = load_model(folder.model)
    settings = run_settings(folder)
    prepared, data = prepare(settings, read_json(folder.splits))
    check_test_set(folder.seal, prepared.sealed)
    compute = choose(settings.run.device, settings.run.precision)
    return open_test(folder, model, data, prepared, compute, make_views(settings, model))


def open_test(
    folder: RunFolder,
    model: AnyModel,
    data: ImageSet,
    prepared: Prepared,
    compute: Compute,
    views: Views | None,
) -> dict[str, Any]:
    """Evaluate on the test labels, record it in ``seal.json``, and write result and report anew."""
    positions = prepared.split.test
    if not len(positions):
        raise RunError(
            f"The run {folder.path} has no test set: its split keeps no images for one. "
            "Start a run with a third share, for example --split 60/20/20."
        )
    probabilities = model.predict(data.images[positions], compute, views)
    evaluation = evaluate(probabilities, data.labels[positions], model.class_names)
    record_opening(
        folder.seal,
        run=folder.path.name,
        when=datetime.now(UTC),
        result={"accuracy": evaluation.accuracy, "n": evaluation.num_images},
    )
    openings = count_openings(folder.seal, folder.path.parent)
    warning = warning_for(openings)
    if warning:
        say(f"Warning: {warning}")
    result = folder.read_result()
    result["test_accuracy"] = evaluation.accuracy
    result["test_interval"] = list(evaluation.interval)
    result["test"] = evaluation.to_dict()
    result["test_openings"] = len(openings)
    result["warnings"] = [warning] if warning else []
    write_json(folder.result, result)
    write_report(folder.path)
    return result
