"""Runs that scripts have measured: a JSON file, in which each names the source it is of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from fewlabels.files import write_json

Run = dict[str, Any]


def saved_runs(path: Path) -> list[Run]:
    """What has been measured."""
    if not path.exists():
        return []
    runs: list[Run] = json.loads(path.read_text())["runs"]
    return runs


def is_known(path: Path, key: Run, *, again: bool) -> bool:
    """Whether a run is there; with `again`, only one of the present source counts."""
    known = [run for run in saved_runs(path) if key.items() <= run.items()]
    return any(not again or run["source"] == source() for run in known)


def save_run(path: Path, key: Run, run: Run) -> None:
    """Put a run in the place of an older one; the file is read anew, as others may write to it."""
    path.parent.mkdir(exist_ok=True)
    others = [one for one in saved_runs(path) if not key.items() <= one.items()]
    write_json(path, {"runs": [*others, {**key, "source": source(), **run}]})


def source() -> str:
    """What is measured: the git tree of `src`, by its hash; with a + where files were changed."""
    asked = (["rev-parse", "--short", "HEAD:src"], ["status", "--porcelain", "src"])
    tree, changes = (
        subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
        for command in asked
    )
    return f"{tree}+" if changes else tree
