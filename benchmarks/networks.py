"""What the networks reach with all labels: tables of docs/benchmarks.md.

    FEWLABELS_DATA=... python -m benchmarks.networks [ROW...]

Accuracies come from the command line program with all labels, as a user would run it, with the
official test images opened once at the end. Results go to benchmarks/results/networks.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.pages import BENCHMARKS, ROOT, write_block
from benchmarks.saved_runs import save_run, saved_runs
from fewlabels.training.device import environment

RESULTS = ROOT / "benchmarks" / "results" / "networks.json"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: what it says.
        data: "mnist" or "cifar".
        settings: of the run.
        goal: least accuracy, as a share.
        seconds: most time of the whole command; None where none is asked for.
    """

    name: str
    data: str
    settings: tuple[str, ...]
    goal: float
    seconds: float | None = None


ALL = ("--recipe", "all_labels")


def named(name: str, epochs: int, *rest: str) -> tuple[str, ...]:
    """Settings of a network and how often it sees every image."""
    settings = (f"network.name={name}", f"training.epochs={epochs}", *rest)
    return (*ALL, *(part for one in settings for part in ("--set", one)))


TABLES: dict[str, list[Row]] = {
    "MNIST, all labels": [
        Row("LeNet-5", "mnist", named("lenet", 15), 0.992, 120),
        Row(
            "small residual network",
            "mnist",
            named("wide_resnet", 6, "network.stem_stride=2"),
            0.995,
            300,
        ),
        Row("row LSTM", "mnist", named("row_rnn", 10), 0.985),
        Row("vision transformer", "mnist", named("vision_transformer", 10), 0.985),
    ],
    "CIFAR-10 (JPEG), all labels": [
        Row(
            "fully connected, below 5 M parameters",
            "cifar",
            named("residual_mlp", 40, "network.width=640", "network.hidden=1024"),
            0.65,
            900,
        ),
        Row(
            "fast residual network",
            "cifar",
            named("wide_resnet", 12, "network.blocks=1"),
            0.88,
            900,
        ),
    ],
}


def measure(names: list[str]) -> None:
    """Every row that is asked for, or all; then the page."""
    for table, rows in TABLES.items():
        for row in rows:
            if not names or row.name in names:
                run = {**fitted(row), "machine": environment()}
                print(table, row.name, f"{run['accuracy']:.4f}", f"{run['seconds']:.0f} s")
                save_run(RESULTS, {"table": table, "row": row.name}, run)
    write_page()


def fitted(row: Row) -> dict[str, Any]:
    """One run of the program."""
    data = "mnist" if row.data == "mnist" else f"{os.environ['FEWLABELS_DATA']}/cifar10-jpeg"
    with tempfile.TemporaryDirectory() as folder:
        command = ["fit", data, *row.settings, "--open-test", "--json", "--out", folder]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "fewlabels", *command],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    (training,) = result["phases"]
    return {
        "accuracy": result["test_accuracy"],
        "n": result["test"]["num_images"],
        "seconds": seconds,
        "epoch_seconds": training["seconds"] / training["epochs"],
        "epochs": training["epochs"],
        "network": result["network"],
    }


def write_page() -> None:
    """The tables, from what has been measured."""
    lines = [ABOUT]
    for table, rows in TABLES.items():
        found = {run["row"]: run for run in saved_runs(RESULTS) if run["table"] == table}
        if not found:
            continue
        lines += [
            f"### {table}",
            "",
            "| network | parameters | test accuracy | goal | epochs | seconds an epoch | in all |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            if row.name not in found:
                continue
            run = found[row.name]
            limit = "" if row.seconds is None else f" of {row.seconds:.0f}"
            in_time = row.seconds is None or run["seconds"] <= row.seconds
            verdict = "reached" if run["accuracy"] >= row.goal and in_time else "**not reached**"
            lines.append(
                f"| {row.name} | {run['network']['num_parameters']:,} "
                f"| {100 * run['accuracy']:.2f} % (n = {run['n']:,}) | {row.goal:.1%}: {verdict} "
                f"| {run['epochs']} | {run['epoch_seconds']:.1f} | {run['seconds']:.0f} s{limit} |"
            )
        lines.append("")
    write_block(BENCHMARKS, "networks", lines)


ABOUT = """\
## Networks with all labels

Written by `benchmarks/networks.py` from `benchmarks/results/networks.json`. Each row is one run of
`fewlabels fit --recipe all_labels`: 95 % of the labels are learnt from, 5 % are watched; the
official test images were opened once, at the end.
"""

if __name__ == "__main__":
    measure(sys.argv[1:])
