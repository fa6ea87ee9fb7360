"""One folder a run: where each file stands, and what version wrote it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w

from fewlabels.config import load_toml
from fewlabels.errors import RunError
from fewlabels.files import make_folder, storage_errors, write_text

FORMAT = 1
"""Version of the layout; a run of another one is refused rather than misread."""

HISTORY_COLUMNS = (
    "phase",
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "labelled_loss",
    "unlabelled_loss",
    "used_share",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Settings as they were asked for, which a resumed run begins with."""
        return self.path / "config.toml"

    @property
    def settings(self) -> Path:
        """Settings that the model was made with, the program's decisions among them."""
        return self.path / "settings.toml"

    @property
    def environment(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.path / "history.csv"

    @property
    def splits(self) -> Path:
        """Image ids by role."""
        return self.path / "splits.json"

    @property
    def seal(self) -> Path:
        """The sealed test set's digest and openings."""
        return self.path / "seal.json"

    @property
    def result(self) -> Path:
        """Numbers and decisions."""
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def report_data(self) -> Path:
        """Arrays that the report draws."""
        return self.path / "report_data.safetensors"

    @property
    def model(self) -> Path:
        """Folder with all that is needed to predict."""
        return self.path / "model"

    def checkpoint(self, phase: str) -> Path:
        """Checkpoint file of a phase; its folder exists."""
        return make_folder(self.path / "checkpoints") / f"{phase}.safetensors"

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write ``config.toml``, with the layout's version on top."""
        write_text(self.config, tomli_w.dumps({"run_format": FORMAT, **values}))

    def write_settings(self, values: Mapping[str, Any]) -> None:
        """Write ``settings.toml``."""
        write_text(self.settings, tomli_w.dumps(values))

    def read_config(self) -> dict[str, Any]:
        """Read ``config.toml``.

        Raises:
            RunError: the layout is of another version.
        """
        values = load_toml(self.config)
        if values.pop("run_format", None) != FORMAT:
            raise RunError(
                f"The run folder {self.path} was written by another version of fewlabels. "
                f"This version reads layout {FORMAT}; start a new run, or install the version that "
                "environment.json names."
            )
        return values

    def read_result(self) -> dict[str, Any]:
        """Read ``result.json``.

        Raises:
            RunError: the run has not finished.
        """
        if not self.result.is_file():
            raise RunError(
                f"The run {self.path} has no result yet. "
                f"Finish it with: fewlabels resume {self.path}"
            )
        return read_json(self.result)

    def write_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``history.csv``, the standard columns first; an empty cell was not measured."""
        rows = list(rows)
        # In the order of their first coming: stages are logged from the image to the output.
        found = dict.fromkeys(key for row in rows for key in row)
        extra = [key for key in found if key not in HISTORY_COLUMNS]
        text = io.StringIO()
        writer = csv.DictWriter(text, [*HISTORY_COLUMNS, *extra], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.history, text.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"The file {path} of the run cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise RunError(f"The file {path} of the run must hold a JSON object.")
    return value


def new_run(runs: Path, name: str, now: datetime) -> RunFolder:
    """Create an empty run folder ``runs/<date>-<time>-<name>``; never an existing one.

    Raises:
        StorageError: the folder cannot be created.
    """
    # File systems end at 255 bytes a name.
    word = re.sub(r"[^A-Za-z0-9]+", "-", name)[:60].strip("-").lower() or "run"
    stem = f"{now:%Y%m%d-%H%M%S}-{word}"
    make_folder(runs)
    for number in range(1, 1000):
        path = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            with storage_errors(path):
                path.mkdir()
        except OSError:
            # Another run of the same second took the name; any other trouble is the user's to see.
            if path.exists():
                continue
            raise
        return RunFolder(path)
    raise RunError(f"There are too many runs called {stem} in {runs}.")


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        RunError: there is none at `path`.
    """
    if not path.exists():
        raise RunError(f"There is no run {path}. List the runs with: ls {path.parent}")
    if not (path / "config.toml").is_file():
        raise RunError(f"{path} is not a run folder: it has no config.toml.")
    return RunFolder(path)
