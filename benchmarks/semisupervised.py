"""How accurate the recipes are with few labels: tables of docs/benchmarks.md and the README.

    FEWLABELS_DATA=... python -m benchmarks.semisupervised [TABLE...] [--draws N] [--again]

Every number comes from the command line program, as a user would run it: labels are drawn anew for
each draw, the official test images are opened once at the end of each run and choose nothing, and
the time is that of the whole command. Results go to benchmarks/results/semisupervised.json row by
row, with the source they were measured with, so that a broken run goes on where it was; with
--again, rows of another source are measured anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.pages import BENCHMARKS, README, ROOT, write_block
from benchmarks.saved_runs import is_known, save_run, saved_runs
from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.training.device import environment

RESULTS = ROOT / "benchmarks" / "results" / "semisupervised.json"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: what it says.
        arguments: of ``fewlabels fit`` beside the draw and the folder.
        goal: least accuracy, as a share; None where there is none.
        seconds: most time; None where there is none.
        draws: label draws.
    """

    name: str
    arguments: tuple[str, ...]
    goal: float | None = None
    seconds: float | None = None
    draws: int = 5


MLP = ("--set", "network.name=mlp")
VIEWS = ("--set", "prediction.views=auto")  # as the recipe auto has them
OUTPUT = ("--open-test", "--json", "--out")
PLAIN = ("--set", "augment.name=none")
SMALL_RESNET = ("--set", "network.name=wide_resnet", "--set", "network.stem_stride=2")


WRN_28_2 = ("--set", "network.name=wide_resnet", "--set", "network.blocks=4")
# A single recipe gets about the time that auto has on the same images, 300 s.
AS_LONG = (
    *("--set", "training.max_steps=1000"),
    *("--set", "pretraining.epochs=1"),
    *("--set", "joint_training.max_steps=500"),
)

# Files that the script makes or that FEWLABELS_DATA holds.
CIFAR, IMBALANCED = "{cifar}", "{imbalanced}"
SINGLE_RECIPES = ("scratch", "default", "fixmatch")
"""What auto chooses among, each by itself."""


def mnist(labels: int, seconds: int, *rest: str) -> tuple[str, ...]:
    return ("mnist", "--num-labels", str(labels), "--time-budget", str(seconds), *rest)


TABLES: dict[str, list[Row]] = {
    "mnist": [
        Row("300 labels", mnist(300, 240, *MLP), 0.99, 240),
        Row("100 labels", mnist(100, 300, *MLP), 0.985, 300),
        Row("30 labels", mnist(30, 300, *MLP), 0.975, 300),
        Row("10 labels, one per class", mnist(10, 300, *MLP), 0.90, 300),
        Row(
            "course protocol 100/100/100",
            ("mnist", "--split", "100/100/100", "--time-budget", "300", *MLP),
            0.985,
            300,
        ),
    ],
    "convolutions": [
        Row("300 labels", mnist(300, 1200, *SMALL_RESNET), 0.994, 1200),
    ],
    "permutation invariant": [
        Row(
            name,
            ("mnist", "--num-labels", "100", "--recipe", name, *PLAIN),
            0.975,
            draws=3,
        )
        for name in ("virtual_adversarial", "ladder")
    ],
    "colour": [
        Row(
            "small residual network, labels alone",
            (CIFAR, "--num-labels", "4000", "--recipe", "scratch", *SMALL_RESNET, *VIEWS),
            draws=3,
        ),
        Row(
            "the same network, recipe auto",
            (CIFAR, "--num-labels", "4000", "--time-budget", "1800", *SMALL_RESNET),
            seconds=1800,
            draws=3,
        ),
    ],
    "auto": [
        Row(f"{title}: {recipe}", (source, "--num-labels", str(labels), *rest), draws=3)
        for title, source, labels, network, budget, single in (
            ("scikit-learn's digits, 50 labels", "digits", 50, (), 120, ()),
            ("CIFAR-10 (JPEG), 1,000 labels", CIFAR, 1000, SMALL_RESNET, 300, AS_LONG),
            ("automobile against ship, 5:1, 60 labels", IMBALANCED, 60, SMALL_RESNET, 300, AS_LONG),
        )
        for recipe, rest in (
            ("auto", (*network, "--time-budget", str(budget))),
            *((name, ("--recipe", name, *network, *single, *VIEWS)) for name in SINGLE_RECIPES),
        )
    ],
    "gpu": [
        Row(
            "WRN-28-2, 250 labels, recipe auto",
            (CIFAR, "--num-labels", "250", "--time-budget", "480", *WRN_28_2),
            seconds=480,
            draws=3,
        )
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--draws", type=int, default=100, help="at most so many of each row")
    parser.add_argument("--again", action="store_true", help="measure rows of older sources anew")
    chosen = parser.parse_args()
    # The table for a GPU is left out where there is none, unless it is asked for.
    for table in chosen.tables or [name for name in TABLES if name != "gpu" or gpu()]:
        for row in TABLES[table]:
            for draw in range(min(chosen.draws, row.draws)):
                measure(table, row, draw, again=chosen.again)
                write_page()
    write_page()


def measure(table: str, row: Row, draw: int, *, again: bool) -> None:
    """One draw of one row, unless it is known."""
    key = {"table": table, "row": row.name, "draw": draw}
    if is_known(RESULTS, key, again=again):
        return
    run = {**fitted(row, draw), "machine": {**environment(), "gpu": gpu()}}
    print(table, row.name, draw, f"{run['accuracy']:.4f}", f"{run['seconds']:.0f} s", flush=True)
    save_run(RESULTS, key, run)


def gpu() -> str | None:
    """Name of the accelerator; None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def fitted(row: Row, draw: int) -> dict[str, Any]:
    """One run of the program."""
    names = ("run.seed", "split.seed", "data.label_seed")
    seeds = [part for name in names for part in ("--set", f"{name}={draw}")]
    with tempfile.TemporaryDirectory() as folder:
        files = {CIFAR: f"{os.environ['FEWLABELS_DATA']}/cifar10-jpeg"}
        if IMBALANCED in row.arguments:
            files[IMBALANCED] = make_imbalanced(Path(folder, "automobile against ship.npz"))
        arguments = [files.get(argument, argument) for argument in row.arguments]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "fewlabels", "fit", *arguments, *seeds, *OUTPUT, folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    return {
        "accuracy": result["test_accuracy"],
        "n": result["test"]["num_images"],
        "seconds": seconds,
        "chosen": result["chosen"],
        "held_out_accuracy": result["val_accuracy"],
        "network": result["network"],
    }


def make_imbalanced(file: Path) -> str:
    """Automobiles and ships of CIFAR-10, one to five: 6,000 to learn from, 1,200 to test on."""
    data = load_images(f"{os.environ['FEWLABELS_DATA']}/cifar10-jpeg")
    rare, common = (data.class_names.index(name) for name in ("automobile", "ship"))
    arrays = {}
    for prefix, part, total in (("train", Part.POOL, 6_000), ("test", Part.TEST, 1_200)):
        counts = ((common, total * 5 // 6), (rare, total // 6))
        chosen = np.concatenate(
            [
                np.flatnonzero((data.labels == label) & (data.parts == part))[:count]
                for label, count in counts
            ]
        )
        arrays[f"{prefix}_images"] = data.images[chosen].transpose(0, 2, 3, 1)
        arrays[f"{prefix}_labels"] = (data.labels[chosen] == rare).astype(np.int64)
    np.savez(file, **arrays)
    return str(file)


def write_page() -> None:
    """Write the tables from what has been measured."""
    runs = saved_runs(RESULTS)
    sources = ", ".join(sorted({run["source"] for run in runs}))
    lines = [
        ABOUT,
        f"Machine: {machine(runs)}. Source measured (git tree of `src`): {sources}.",
        "",
    ]
    for table, rows in TABLES.items():
        measured = [row for row in rows if any(fits(run, table, row) for run in runs)]
        if measured:
            lines += [f"### {TITLES[table]}", "", *table_lines(table, measured, runs), ""]
            said = [*repetitions(table, runs), *comparisons(table, runs)]
            lines += [line for sentence in said for line in (sentence, "")]
    write_block(BENCHMARKS, "few labels", lines)
    write_block(README, "few labels", headline(runs))


def headline(runs: list[dict[str, Any]]) -> list[str]:
    """The first table's rows, short."""
    lines = ["| labels in all | accuracy on the 10,000 test images | seconds |", "|---|---|---|"]
    for row in TABLES["mnist"]:
        found = [run for run in runs if fits(run, "mnist", row)]
        if found:
            longest = max(run["seconds"] for run in found)
            lines.append(f"| {row.name} | {accuracy(found)} | {longest:.0f} |")
    measured = [run for run in runs if run["table"] == "mnist"]
    lines += ["", f"{machine(measured)}. Mean over draws of the labels, longest run."]
    draws = sum(row.draws for row in TABLES["mnist"])
    if len(measured) < draws or len({run["source"] for run in measured}) > 1:
        lines.append(
            f"**Preliminary**: {len(measured)} of {draws} runs, not all of them with one source."
        )
    return lines


def accuracy(found: list[dict[str, Any]]) -> str:
    """Mean, standard deviation and number of draws."""
    values = [100 * run["accuracy"] for run in found]
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread} % (n = {len(values)})"


def fits(run: dict[str, Any], table: str, row: Row) -> bool:
    return (run["table"], run["row"]) == (table, row.name)


def machine(runs: list[dict[str, Any]]) -> str:
    facts = runs[0]["machine"]
    torches = ", ".join(sorted({run["machine"]["torch"] for run in runs}))
    threads = max(run["machine"]["threads"] for run in runs)
    accelerators = {run["machine"].get("gpu") for run in runs} - {None}
    gpu = ", ".join(sorted(accelerators)) or "no GPU"
    return f"{facts['processor']}, {threads} cores, {gpu}; torch {torches}"


def table_lines(table: str, rows: list[Row], runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| labels | test accuracy, mean ± std (draws) | worst | goal | seconds, longest | chosen |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = [run for run in runs if fits(run, table, row)]
        values = [run["accuracy"] for run in found]
        longest = max(run["seconds"] for run in found)
        goal = "" if row.goal is None else f"{row.goal:.1%}: {verdict(row, found)}"
        limit = "" if row.seconds is None else f" of {row.seconds:.0f}"
        threads = {run["machine"]["threads"] for run in found}
        limit += f", {threads.pop()} thread" if threads == {1} else ""
        names = sorted({run["chosen"] for run in found})
        lines.append(
            f"| {row.name} | {accuracy(found)} | {100 * min(values):.2f} % "
            f"| {goal} | {longest:.0f}{limit} | {', '.join(names)} |"
        )
    return lines


def verdict(row: Row, found: list[dict[str, Any]]) -> str:
    if len(found) < row.draws:
        return f"{len(found)} of {row.draws} draws measured so far"
    assert row.goal is not None
    if row.seconds is not None and max(run["seconds"] for run in found) > row.seconds:
        return "**not reached in time**"
    reached = mean(run["accuracy"] for run in found) >= row.goal
    return "reached" if reached else "**not reached**"


def repetitions(table: str, runs: list[dict[str, Any]]) -> list[str]:
    """Sentences about runs that stand in the place of others, with the figures of those."""
    return [
        f"The run {run['row']}, draw {run['draw']}, was measured anew: the first time it reached "
        f"{100 * old['accuracy']:.2f} % in {old['seconds']:.0f} s, as {old['why']}."
        for run in runs
        if run["table"] == table and (old := run.get("instead_of"))
    ]


def comparisons(table: str, runs: list[dict[str, Any]]) -> list[str]:
    """Sentences about differences between rows, on the same draws of the labels."""
    if table == "colour":
        alone, auto = (row.name for row in TABLES["colour"])
        pairs = paired(table, auto, alone, runs)
        if not pairs:
            return []
        return [f"Difference: {difference(pairs)}; the goal is 8 points at least."]
    if table != "auto":
        return []
    sentences = []
    for title in dict.fromkeys(row.name.rpartition(": ")[0] for row in TABLES["auto"]):
        against = {
            recipe: paired(table, f"{title}: auto", f"{title}: {recipe}", runs)
            for recipe in SINGLE_RECIPES
        }
        if not all(against.values()):
            continue
        best = min(against, key=lambda recipe: mean(against[recipe]))
        found = difference(against[best])
        within = mean(against[best]) >= -1 or interval(against[best])[1] >= 0
        verdict = "within 1 point, or its interval" if within else "**more than 1 point below**"
        sentences.append(
            f"{title}: auto against the best single recipe, {best}: {found}: {verdict}."
        )
    return sentences


def paired(table: str, one: str, other: str, runs: list[dict[str, Any]]) -> list[float]:
    """Differences in points between two rows, draw by draw; none where a draw is missing."""
    by_row: dict[str, dict[int, float]] = {one: {}, other: {}}
    for run in runs:
        if run["table"] == table and run["row"] in by_row:
            by_row[run["row"]][run["draw"]] = 100 * run["accuracy"]
    draws = sorted(by_row[one].keys() & by_row[other].keys())
    return [by_row[one][draw] - by_row[other][draw] for draw in draws]


def interval(pairs: list[float]) -> tuple[float, float]:
    """95 % interval of the mean difference, by Student's t; the value itself for a single draw."""
    if len(pairs) < 2:
        return pairs[0], pairs[0]
    half = stats.t.ppf(0.975, len(pairs) - 1) * stdev(pairs) / len(pairs) ** 0.5
    return mean(pairs) - half, mean(pairs) + half


def difference(pairs: list[float]) -> str:
    low, high = interval(pairs)
    return f"{mean(pairs):+.2f} points ({low:+.2f} … {high:+.2f}, n = {len(pairs)})"


TITLES = {
    "mnist": "MNIST, fully connected layers only, recipe auto",
    "convolutions": "MNIST, convolutions allowed, recipe auto",
    "permutation invariant": "MNIST, 100 labels, no augmentation, fully connected",
    "colour": "CIFAR-10 (JPEG), 4,000 labels",
    "auto": "The recipe auto against single recipes, on sets that are not MNIST",
    "gpu": "CIFAR-10 (JPEG) with a GPU",
}

ABOUT = """\
## Accuracy with few labels

Written by `benchmarks/semisupervised.py` from `benchmarks/results/semisupervised.json`. Each row is
the mean over draws of the labels, stratified by class; all labels are counted, those that choose
the method included. The official test images (10,000 for MNIST) were opened once at the end of
each run. The defaults themselves were chosen on other draws of the labels, by the remaining labels
of MNIST's *training* images: so these figures are those of a recipe that knows MNIST, and other
images will be harder. Rows that were measured with an earlier source, and with fewer draws than the
goal asks for, are preliminary.
"""


if __name__ == "__main__":
    main()
