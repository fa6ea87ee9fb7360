"""The main job on data that everybody has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewlabels.lookup import find
from fewlabels.workflows.fit import fit
from fewlabels.workflows.settings import load_settings

DEMOS: dict[str, tuple[str, int]] = {"digits": ("digits", 50), "mnist": ("default", 300)}
"""From data set to its recipe and its number of labels."""


def demo(
    data: str,
    runs: Path,
    assignments: Sequence[str] = (),
    *,
    num_labels: int | None = None,
    label_seed: int = 0,
) -> dict[str, Any]:
    """Fit on a built-in data set with few of its labels, test set opened at the end.

    Args:
        data: a name in `DEMOS`.
        runs: folder in which the run folder is made.
        assignments: settings as ``a.b=c``.
        num_labels: labels to keep; the demo's own number unless given.
        label_seed: which ones.

    Raises:
        UnknownNameError: no demo of that name.
        DownloadError: the data is not here and cannot be fetched.
    """
    recipe, usual = find(DEMOS, data, "demo data set")
    chosen = {"source": data, "num_labels": num_labels or usual, "label_seed": label_seed}
    settings = load_settings(recipe, assignments=assignments, flags={"data": chosen})
    return fit(settings, runs, open_test_set=True)
