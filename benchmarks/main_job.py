"""Numbers of the main job on MNIST, fully connected layers only, fewer than 5 million parameters.

Claim: what stands in the README's table. Every figure is a mean over ten draws of the labels (seeds
0 to 9, none left out), judged on the 10,000 official test images, which choose nothing. Scratch and
pretrained share labels, augmentation, network, optimiser and number of epochs, pair by pair.

    FEWLABELS_DATA=... python benchmarks/main_job.py [autoencoder linear protocols fit start]

Results go to benchmarks/results/main_job.json as they come, so that an interrupted measurement goes
on where it stopped; `python -m benchmarks.tables` writes them into the README.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from fewlabels.evaluation.metrics import paired_difference
from fewlabels.evaluation.pca import flat_pixels
from fewlabels.files import write_json
from fewlabels.networks.classifier import is_fully_connected, num_parameters
from fewlabels.training.device import environment
from fewlabels.workflows.model import Model
from fewlabels.workflows.phases import Context, pretrain, reconstruct, train_classifier
from fewlabels.workflows.prepare import labelled, prepare, read_source
from fewlabels.workflows.settings import DataConfig, load_settings

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "main_job.json"
DRAWS = 10
PCA_20_TEST_ERROR = 0.02354  # mean squared error per pixel, PCA fitted on the training images


def main() -> None:
    sections = {
        "start": measure_start,
        "linear": measure_linear,
        "autoencoder": measure_autoencoder,
        "fit": measure_fit,
        "protocols": measure_protocols,
    }
    chosen = sys.argv[1:] or list(sections)
    for name in chosen:
        results = load()
        sections[name](results)


def load() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(results: dict[str, Any], section: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    results[section] |= {"date": f"{date.today()}", "commit": commit, "machine": environment()}
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, results)


def mnist(part: str) -> np.ndarray:
    data = read_source(DataConfig(source="mnist"))
    return data.images[data.parts == (2 if part == "test" else 0)]


def measure_autoencoder(results: dict[str, Any]) -> None:
    """Latent 20 against PCA with 20 components, on the official test images."""
    train, test = mnist("train"), mnist("test")
    rows = []
    for seed in range(2):
        settings = load_settings("autoencoder")
        context = Context.of(replace(settings, run=replace(settings.run, seed=seed)))
        started = time.perf_counter()
        pretrained = pretrain(context, train)
        seconds = time.perf_counter() - started
        shown = reconstruct(pretrained.objective, test, context.compute)
        error = float(np.mean((shown.reshape(len(shown), -1) - flat_pixels(test)) ** 2))
        rows.append({"seed": seed, "test_error": error, "seconds": seconds})
        print(f"autoencoder {rows[-1]}", flush=True)
    results["autoencoder"] = {
        "rows": rows,
        "num_parameters": num_parameters(pretrained.objective),
        "fully_connected_only": is_fully_connected(pretrained.objective),
        "pca_test_error": PCA_20_TEST_ERROR,
    }
    save(results, "autoencoder")


def measure_linear(results: dict[str, Any]) -> None:
    """A linear autoencoder against PCA: training error and subspace."""
    train = mnist("train")
    pixels = flat_pixels(train)
    rows = []
    for width in (2, 10, 32):
        settings = load_settings("linear_autoencoder", assignments=[f"network.latent={width}"])
        context = Context.of(settings)
        started = time.perf_counter()
        pretrained = pretrain(context, train)
        seconds = time.perf_counter() - started
        pca = PCA(width, svd_solver="covariance_eigh").fit(pixels)
        pca_error = np.mean((pca.inverse_transform(pca.transform(pixels)) - pixels) ** 2)
        shown = linear_reconstructions(pretrained.objective, train)
        error = float(np.mean((shown - pixels) ** 2))
        weights = pretrained.objective.decoder.to_pixels.weight.detach().numpy()
        angle = float(np.degrees(subspace_angles(weights, pca.components_.T).max()))
        rows.append(
            {
                "width": width,
                "train_error": error,
                "pca_train_error": float(pca_error),
                "largest_angle_degrees": angle,
                "seconds": seconds,
            }
        )
        print(f"linear {rows[-1]}", flush=True)
    results["linear"] = {"rows": rows}
    save(results, "linear")


def linear_reconstructions(objective: Any, images: np.ndarray) -> np.ndarray:
    """Without the clipping to [0, 1] that people want to see, because PCA does not clip."""
    import torch

    from fewlabels.data.batches import as_tensor, to_float

    with torch.inference_mode():
        parts = [objective(to_float(part)).flatten(1) for part in as_tensor(images).split(5_000)]
        return torch.cat(parts).numpy()


PROTOCOLS = {
    # Name: labels in all, split. The first is the course's; its last 100 labels stay unused because
    # the official test images judge. In the second, all 300 labels end in training.
    "100/100/100": (300, "100/100/100"),
    "300": (300, "75/25/0"),
}
AUGMENTATIONS = {
    # Without augmentation nothing new is seen after 300 passes; the rest is the default recipe.
    "none": ["augment.name=none", "training.epochs=300"],
    "auto": ["augment.name=auto"],
}
STRATEGY = "full"  # fixed beforehand, so that nothing has to be chosen


def measure_protocols(results: dict[str, Any]) -> None:
    """Scratch and pretrained over ten label draws."""
    section = results.setdefault("protocols", {"rows": []})
    for draw in range(DRAWS):
        if any(row["draw"] == draw for row in section["rows"]):
            continue
        section["rows"] += run_draw(draw)
        save(results, "protocols")
    section["summary"] = summarise(section["rows"])
    save(results, "protocols")


def run_draw(draw: int) -> list[dict[str, Any]]:
    """All protocols of one draw; one pretraining serves them, as it sees no labels."""
    rows, pretrained, pretraining_seconds = [], None, 0.0
    for augmentation, assignments in AUGMENTATIONS.items():
        for protocol, (num_labels, shares) in PROTOCOLS.items():
            settings = load_settings(
                assignments=[
                    *assignments,
                    "data.source=mnist",
                    f"data.num_labels={num_labels}",
                    f"data.label_seed={draw}",
                    f"split.shares='{shares}'",
                    f"split.seed={draw}",
                    f"run.seed={draw}",
                ]
            )
            prepared, data = prepare(settings)
            context = Context.of(settings)
            pool = prepared.data.images[prepared.split.pretraining(len(prepared.data))]
            if pretrained is None:
                started = time.perf_counter()
                pretrained = pretrain(context, pool)
                pretraining_seconds = time.perf_counter() - started
            row = {"draw": draw, "protocol": protocol, "augmentation": augmentation}
            row["pretraining_seconds"] = pretraining_seconds
            for name, strategy in (("scratch", None), ("pretrained", STRATEGY)):
                row[name] = score(context, prepared, data, pool, strategy, pretrained)
            rows.append(row)
            print(row, flush=True)
    return rows


def score(context, prepared, data, pool, strategy, pretrained) -> dict[str, Any]:
    """Accuracy on the official test images after training on the training labels alone, and after
    the refit on training and validation labels, which is what `fit` ships.
    """
    test = labelled(data, prepared.split.test)
    parts = {"test_accuracy": prepared.training + prepared.validation}
    if len(prepared.split.unused):
        parts["test_accuracy_before_refit"] = prepared.training
    row: dict[str, Any] = {}
    started = time.perf_counter()
    for key, images in parts.items():
        trained = train_classifier(
            context,
            "refit",
            images,
            None,
            prepared.data.num_classes,
            encoder_state=pretrained.encoder.state_dict() if strategy else None,
            strategy=strategy,
            statistics_from=pool,
        )
        classifier = trained.classifier
        model = Model(classifier, context.settings.network, prepared.data.image_shape, ())
        predicted = model.predict(test.images, context.compute).argmax(axis=1)
        row[key] = float((predicted == test.labels).mean())
        row[f"num_labels_{key.removeprefix('test_accuracy').strip('_') or 'final'}"] = len(
            images.labels
        )
    row["seconds"] = time.perf_counter() - started
    row["num_parameters"] = num_parameters(classifier)
    row["fully_connected_only"] = is_fully_connected(classifier)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, spread and paired difference for each protocol."""
    summary = []
    for augmentation in AUGMENTATIONS:
        for protocol in PROTOCOLS:
            chosen = [
                row
                for row in rows
                if (row["protocol"], row["augmentation"]) == (protocol, augmentation)
            ]
            entry: dict[str, Any] = {
                "protocol": protocol,
                "augmentation": augmentation,
                "n": len(chosen),
            }
            for key in ("test_accuracy", "test_accuracy_before_refit"):
                if key not in chosen[0]["scratch"]:
                    continue
                scratch = [row["scratch"][key] for row in chosen]
                pretrained = [row["pretrained"][key] for row in chosen]
                entry[key] = {
                    "scratch": [float(np.mean(scratch)), float(np.std(scratch, ddof=1))],
                    "pretrained": [float(np.mean(pretrained)), float(np.std(pretrained, ddof=1))],
                    "difference": paired_difference(pretrained, scratch)._asdict(),
                }
            summary.append(entry)
            print(entry, flush=True)
    return summary


def measure_fit(results: dict[str, Any]) -> None:
    """Whole `fewlabels fit` on MNIST with 300 labels: seconds and peak memory."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "fewlabels", "fit", "mnist", "--num-labels", "300"]
        command += ["--recipe", "default"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--open-test", "--json", "--out", runs],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        outcome = json.loads(done.stdout)
    results["fit"] = {
        "seconds": seconds,
        "peak_memory_megabytes": peak,
        "chosen": outcome["chosen"],
        "test_accuracy": outcome["test_accuracy"],
        "phases": outcome["phases"],
    }
    print(f"fit {results['fit']}", flush=True)
    save(results, "fit")


def measure_start(results: dict[str, Any]) -> None:
    """`fewlabels --help`, median of ten whole processes."""
    program = shutil.which("fewlabels", path=os.path.dirname(sys.executable)) or "fewlabels"
    times = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    results["start"] = {"median_seconds": float(np.median(times[1:])), "n": 10}
    print(f"start {results['start']}", flush=True)
    save(results, "start")


if __name__ == "__main__":
    main()
