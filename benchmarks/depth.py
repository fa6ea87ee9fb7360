"""Deeper networks with and without shortcuts: the figure and the table of docs/networks.md.

    FEWLABELS_DATA=... python -m benchmarks.depth [--again]

Each run is one of the command line program: the residual network of He et al. (2016) or its plain
twin, at two depths, on the same images of CIFAR-10 (JPEG), for the same number of epochs. What
counts is the loss on the images it learns from: a deeper network that cannot even learn those has
not overfitted, it was too hard to train. Results go to benchmarks/results/depth.json.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from benchmarks.pages import ROOT, write_block
from benchmarks.saved_runs import Run, is_known, save_run, saved_runs
from fewlabels.plots.figure import write_figure
from fewlabels.training.device import environment

RESULTS = ROOT / "benchmarks" / "results" / "depth.json"
FIGURE = ROOT / "docs" / "networks" / "depth.svg"
NUM_LABELS, EPOCHS, SEEDS = 10_000, 15, 2
DEPTHS = (20, 56)
LOOKS = {
    (20, True): "#4c78a8",
    (56, True): "#1b3f66",
    (20, False): "#f58518",
    (56, False): "#a34700",
}
LAST_EPOCHS = 3
"""Over which the loss at the end is averaged, as it jumps from epoch to epoch."""


def measure(again: bool) -> None:
    """Every run that is missing; one seed of everything before the next seed."""
    for seed in range(SEEDS):
        for depth in DEPTHS:
            for shortcuts in (True, False):
                key = {"depth": depth, "shortcuts": shortcuts, "seed": seed}
                if not is_known(RESULTS, key, again=again):
                    run = trained(depth, shortcuts, seed)
                    print(key, f"{run['train_loss'][-1]:.4f}", flush=True)
                    save_run(RESULTS, key, {**run, "machine": environment()})


def runs_of(depth: int, shortcuts: bool) -> list[Run]:
    """What has been measured of one network."""
    wanted = {"depth": depth, "shortcuts": shortcuts}
    return [run for run in saved_runs(RESULTS) if wanted.items() <= run.items()]


def trained(depth: int, shortcuts: bool, seed: int) -> dict[str, Any]:
    """One run of the program: its losses, epoch by epoch."""
    settings = {
        "network.name": "resnet",
        "network.depth": depth,
        "network.shortcuts": str(shortcuts).lower(),
        "training.epochs": EPOCHS,
        "training.batch_size": 128,
        "classification.label_smoothing": 0,
        "run.seed": seed,
        "split.seed": seed,
        "data.label_seed": seed,
    }
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    data = f"{os.environ['FEWLABELS_DATA']}/cifar10-jpeg"
    common = ("--recipe", "all_labels", "--num-labels", str(NUM_LABELS), "--json", "--out")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "fewlabels", "fit", data, *given, *common, folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout)
        with open(Path(result["run"], "history.csv"), newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["phase"] == "scratch"]
    return {
        "train_loss": [float(row["train_loss"]) for row in rows],
        "val_accuracy": [float(row["val_accuracy"]) for row in rows],
        "seconds": sum(float(row["seconds"]) for row in rows),
    }


def at_the_end(depth: int, shortcuts: bool) -> list[float]:
    """Loss at the end of each seed's run."""
    return [mean(run["train_loss"][-LAST_EPOCHS:]) for run in runs_of(depth, shortcuts)]


def write_page() -> None:
    """The figure, and a table with what it shows."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for (depth, shortcuts), colour in LOOKS.items():
        for number, run in enumerate(runs_of(depth, shortcuts)):
            label = f"{'residual' if shortcuts else 'plain'}, {depth} layers"
            epochs = range(1, len(run["train_loss"]) + 1)
            style = "-" if shortcuts else "--"
            axes.plot(
                epochs, run["train_loss"], style, color=colour, label=None if number else label
            )
    axes.set_xlabel("epochs")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False)
    write_figure(figure, FIGURE, "svg")
    lines = [
        "![plain and residual networks](networks/depth.svg)",
        "",
        f"| network | training loss, mean of the last {LAST_EPOCHS} epochs | each run |",
        "|---|---|---|",
    ]
    for depth, shortcuts in LOOKS:
        found = at_the_end(depth, shortcuts)
        kind = "residual" if shortcuts else "plain"
        each = ", ".join(f"{loss:.3f}" for loss in found)
        lines.append(f"| {kind}, {depth} layers | {mean(found):.3f} | {each} |")
    lines += ["", sentence(), "", "Written by `benchmarks/depth.py`.", ""]
    write_block(ROOT / "docs" / "networks.md", "depth", lines)


def sentence() -> str:
    """What the table says."""
    parts = []
    for shortcuts, kind in ((True, "residual"), (False, "plain")):
        pairs = zip(at_the_end(20, shortcuts), at_the_end(56, shortcuts), strict=True)
        gaps = [deep - shallow for shallow, deep in pairs]
        verdict = "trains worse" if mean(gaps) > 0 else "trains no worse"
        parts.append(
            f"the {kind} network of 56 layers {verdict} than that of 20 ({mean(gaps):+.3f})"
        )
    facts = f"{NUM_LABELS:,} images of CIFAR-10 (JPEG), {EPOCHS} epochs, {SEEDS} runs each"
    return f"{facts}: {', '.join(parts)}."


if __name__ == "__main__":
    measure("--again" in sys.argv[1:])
    write_page()
