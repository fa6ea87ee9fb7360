"""What the pretext objectives teach, and how good the images are that they make.

    FEWLABELS_DATA=... python -m benchmarks.pretexts [ROW...] [--again]

Runs are those of the command line program on MNIST. Probes learn from 300 labels and are judged by
the official test images, which choose nothing. Made images are judged by a network of the program's
own, trained with all labels. Results go to benchmarks/results/pretexts.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pages import BENCHMARKS, ROOT, write_block
from benchmarks.saved_runs import is_known, save_run, saved_runs
from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.data.splits import hide_labels
from fewlabels.evaluation.predict import extract_features
from fewlabels.evaluation.probe import linear_probe
from fewlabels.pretext.variational_autoencoder import VariationalAutoencoder
from fewlabels.training.device import environment
from fewlabels.workflows.artefact import load_artefact

RESULTS = ROOT / "benchmarks" / "results" / "pretexts.json"
CLASSIFIER = ROOT / "runs" / "benchmark-classifier"
NUM_LABELS = 300
DRAWS_OF_THE_BOUND = 50


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the row.
        objective: that is learnt.
        settings: assignments beside the recipe of the objective's name.
        seconds: most time of the pretraining.
        probe: least accuracy of the probe; None where there is no goal.
        sure: least share of made images that are clearly a digit; None where none is made.
        rarest: least share of the rarest class among them.
        bound: largest negative evidence bound in nats; None where there is none.
    """

    name: str
    objective: str
    settings: tuple[str, ...] = ()
    seconds: float = 300
    probe: float | None = None
    sure: float | None = None
    rarest: float | None = None
    bound: float | None = None


CONVOLUTIONAL = ("network.name=wide_resnet", "network.stem_stride=2")

ROWS = [
    Row(
        "variational autoencoder, fully connected",
        "variational_autoencoder",
        ("pretext.binarised=true",),
        360,
        sure=0.8,
        rarest=0.04,
        bound=100,
    ),
    Row("adversarial", "generative_adversarial", (), 600, sure=0.85, rarest=0.04),
    Row("diffusion", "diffusion", (), 900, sure=0.9, rarest=0.05),
    Row("contrastive, convolutional", "contrastive", CONVOLUTIONAL, probe=0.96),
    Row("masked, convolutional", "masked_autoencoder", CONVOLUTIONAL, probe=0.90),
    Row("denoising, convolutional", "denoising_autoencoder", CONVOLUTIONAL, probe=0.90),
    Row("autoencoder, convolutional", "autoencoder", CONVOLUTIONAL),
    Row("contractive, convolutional", "contractive_autoencoder", CONVOLUTIONAL),
    Row("self-distillation, convolutional", "self_distillation", CONVOLUTIONAL),
    Row("variance and invariance, convolutional", "variance_invariance", CONVOLUTIONAL),
    Row("rotation prediction, convolutional", "rotation_prediction", CONVOLUTIONAL),
    Row("denoising with skip connections", "unet_denoising"),
]


def program(*arguments: str) -> dict[str, Any]:
    """One run of the program, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "fewlabels", *arguments, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def classifier() -> Path:
    """A network trained with all labels, which judges images; made once."""
    if not list(CLASSIFIER.glob("*/model/model.json")):
        settings = ("network.name=lenet", "training.epochs=15")
        given = [part for one in settings for part in ("--set", one)]
        out = ("--out", str(CLASSIFIER))
        program("fit", "mnist", "--recipe", "all_labels", *given, *out, "--open-test")
    (model,) = CLASSIFIER.glob("*/model/model.json")
    return model.parent.parent


def measured(row: Row) -> dict[str, Any]:
    """Pretrain, probe, and let it draw."""
    with tempfile.TemporaryDirectory() as folder:
        given = [part for one in row.settings for part in ("--set", one)]
        started = time.perf_counter()
        result = program(
            *("pretrain", "mnist", "--objective", row.objective, *given),
            *("--num-labels", str(NUM_LABELS), "--out", folder),
        )
        seconds = time.perf_counter() - started
        run = Path(result["run"])
        found = {
            "seconds": seconds,
            "cross_validated": result["probe"].get("probe_accuracy"),
            "probe": probed(run),
            "network": result["network"],
            "machine": environment(),
        }
        if row.sure is not None:
            judge = classifier()
            made = program(
                *("generate", str(run), "--classifier", str(judge)),
                *("-o", str(Path(folder, "samples.png"))),
            )
            started = time.perf_counter()
            program("generate", str(run), "--count", "64", "-o", str(Path(folder, "again.png")))
            found["seconds_of_64"] = time.perf_counter() - started
            found["quality"] = made["quality"]
            judged = json.loads((judge / "result.json").read_text())
            found["judge_accuracy"] = judged["test_accuracy"]
        if row.bound is not None:
            found |= bounds(run)
    return found


def probed(run: Path) -> float:
    """A linear probe of the labels that the run knew, on the official test images."""
    data = load_images("mnist")
    known = hide_labels(data, NUM_LABELS, 0)
    learnt = known.labelled[known.parts[known.labelled] != Part.TEST]
    judged = np.flatnonzero(data.parts == Part.TEST)
    encoder = load_artefact(run).objective.finished_encoder()
    model: Any = linear_probe()
    model.fit(extract_features(encoder, data.images[learnt], device="cpu"), data.labels[learnt])
    guesses = model.predict(extract_features(encoder, data.images[judged], device="cpu"))
    return float((guesses == data.labels[judged]).mean())


@torch.no_grad()
def bounds(run: Path) -> dict[str, float]:
    """Negative bounds in nats an image, on the test images with pixels drawn black or white."""
    data = load_images("mnist")
    pixels = torch.from_numpy(data.images[data.parts == Part.TEST]).float() / 255
    generator = torch.Generator().manual_seed(0)
    objective = load_artefact(run).objective
    assert isinstance(objective, VariationalAutoencoder)
    plain, tighter = [], []
    for images in pixels.split(500):
        drawn = torch.bernoulli(images, generator=generator)
        plain.append(objective.negative_bound(drawn, generator))
        tighter.append(-objective.importance_weighted_bound(drawn, generator, DRAWS_OF_THE_BOUND))
    return {
        "bound": float(torch.cat(plain).mean()),
        "importance_weighted": float(torch.cat(tighter).mean()),
    }


def write_page() -> None:
    """The table, from what has been measured."""
    lines = [
        ABOUT,
        "| objective | probe on 10,000 test images | in turns on the labels | clearly a digit "
        "| rarest class | nats an image | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        found = [run for run in saved_runs(RESULTS) if run["row"] == row.name]
        if not found:
            continue
        run, in_time = found[0], found[0]["seconds"] <= row.seconds
        quality = run.get("quality")
        shares = quality and min(quality["shares"].values())
        cells = [
            row.name,
            _cell(f"{100 * run['probe']:.1f} %", row.probe, run["probe"], in_time),
            "" if run["cross_validated"] is None else f"{100 * run['cross_validated']:.1f} %",
            quality and _cell(f"{100 * quality['sure']:.1f} %", row.sure, quality["sure"], in_time),
            quality and _cell(f"{100 * shares:.1f} %", row.rarest, shares, in_time),
            "bound" in run
            and _cell(f"{run['bound']:.1f}", -(row.bound or 0), -run["bound"], in_time),
            f"{run['seconds']:.0f} of {row.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(str(cell or "") for cell in cells) + " |")
    write_block(BENCHMARKS, "pretexts", [*lines, ""])


def _cell(text: str, goal: float | None, value: float, in_time: bool) -> str:
    if goal is None:
        return text
    return f"{text}: {'reached' if value >= goal and in_time else '**not reached**'}"


ABOUT = """\
## Pretext objectives on MNIST

Written by `benchmarks/pretexts.py` from `benchmarks/results/pretexts.json`, one run each. The probe
is a logistic regression on the features, which learns from 300 labels. Images are judged by a
LeNet-5 that was trained with all labels: clearly a digit means with a probability above 0.9.
"""

if __name__ == "__main__":
    again, names = "--again" in sys.argv, [one for one in sys.argv[1:] if one != "--again"]
    for row in ROWS:
        if (not names or row.name in names) and not is_known(
            RESULTS, {"row": row.name}, again=again
        ):
            found = measured(row)
            print(
                row.name,
                {key: value for key, value in found.items() if key != "machine"},
                flush=True,
            )
            save_run(RESULTS, {"row": row.name}, found)
    write_page()
