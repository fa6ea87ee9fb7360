"""The course of a run: how it begins, what it keeps on the way, and how it goes on after a stop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fewlabels
from fewlabels.data.memory import let_go
from fewlabels.errors import RunError, StorageError
from fewlabels.evaluation.sealed_test import write_seal
from fewlabels.files import write_json
from fewlabels.progress import say
from fewlabels.runs.run_folder import RunFolder, new_run, read_json
from fewlabels.training.device import environment
from fewlabels.training.trainer import History, PhaseResult
from fewlabels.workflows.prepare import Prepared
from fewlabels.workflows.settings import Settings

_IMAGES_AT_ONCE = 16_384


def begin_run(runs: Path, settings: Settings, prepared: Prepared) -> RunFolder:
    """A new run folder with settings, versions, split and seal in it."""
    folder = new_run(runs, Path(settings.data.source).stem, datetime.now())
    folder.write_config(settings.to_values())
    write_json(folder.environment, _environment(prepared))
    write_json(folder.splits, prepared.split.to_json(prepared.data))
    write_seal(folder.seal, prepared.sealed)
    say(f"Run folder: {folder.path}")
    return folder


@contextmanager
def saying_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    """Within the block, whoever is stopped is told how to resume."""
    try:
        yield
    except (KeyboardInterrupt, StorageError):
        say(
            "Stopped; the last checkpoint is kept. "
            f"Go on from there with: fewlabels resume {folder.path}"
        )
        raise


def check_same_data(folder: RunFolder, prepared: Prepared) -> None:
    """Refuse to go on with other images or labels.

    Also writes the files that a run killed in its first second did not get to write.

    Raises:
        RunError: the images or labels have changed.
    """
    split = prepared.split.to_json(prepared.data)
    if not folder.splits.is_file():
        write_json(folder.splits, split)
    write_seal(folder.seal, prepared.sealed)
    if not folder.environment.is_file():
        write_json(folder.environment, _environment(prepared))
    same_images = read_json(folder.environment)["images"] == _environment(prepared)["images"]
    if read_json(folder.splits) != split or not same_images:
        raise RunError(
            f"The images or labels have changed since the run {folder.path} was started, so it "
            "cannot go on exactly. Restore them, or start a new run."
        )


def _environment(prepared: Prepared) -> dict[str, str | int]:
    """Versions, machine, and a digest of all images: a resumed run must see the same ones."""
    facts = {"fewlabels": fewlabels.__version__, **environment()}
    return {**facts, "images": images_digest(prepared.data.images)}


def images_digest(images: npt.NDArray[Any]) -> str:
    """A word that is the same for the same images alone."""
    digest = hashlib.sha256()
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        digest.update(np.ascontiguousarray(images[start : start + _IMAGES_AT_ONCE]).data)
        let_go(images)
    return f"sha256:{digest.hexdigest()}"


class RunHistory:
    """Keeps ``history.csv`` up to date while phases come and go."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.rows: dict[str, History] = {}

    def update(self, rows: History) -> None:
        """Take in one phase's rows and write all of them."""
        if rows:
            self.rows[str(rows[0]["phase"])] = rows
            self.folder.write_history(row for phase in self.rows.values() for row in phase)


def data_facts(prepared: Prepared) -> dict[str, Any]:
    """The part ``data`` of ``result.json``."""
    data = prepared.data
    counts = prepared.counts()
    return {
        "source": data.source,
        "num_images": len(data),
        "num_labelled": sum(counts.values()) - counts["unlabelled"],
        "num_classes": data.num_classes,
        "image_shape": list(data.image_shape),
        "class_names": list(data.class_names),
        "counts": counts,
    }


def phase_row(name: str, phase: PhaseResult) -> dict[str, Any]:
    """One row of ``phases`` in ``result.json``."""
    images = [float(row["images_per_second"]) for row in phase.history]
    return {
        "name": name,
        "seconds": phase.seconds,
        "epochs": phase.epochs,
        "best_epoch": phase.best_epoch,
        "images_per_second": float(np.median(images)) if images else None,
    }
