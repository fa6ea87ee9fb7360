"""Speed side by side with what people use today, one comparison after the other.

    FEWLABELS_DATA=... python benchmarks/speed/run.py --peers .venv-peers/bin/python [TASK...]

Claim: what stands in docs/benchmarks.md. All contestants of a comparison are processes that wait
while one of them runs; they take turns, so that a slow minute of the machine hits each of them.
Results go to benchmarks/results/speed.json as they come; speed/tables.py writes the page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np

from fewlabels.data import load_images
from fewlabels.files import write_json
from fewlabels.training.device import environment
from fewlabels.workflows.bench import bench

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "speed.json"
FEWEST_REPETITIONS = 5  # that the page may be written from


@dataclass(frozen=True)
class Contestant:
    """A function of ours.py or peers.py with its arguments."""

    name: str
    function: str
    arguments: tuple[str, ...] = ()
    ours: bool = False


def ours(name: str, function: str, *arguments: str) -> Contestant:
    return Contestant(name, function, arguments, ours=True)


def peer(name: str, function: str, *arguments: str) -> Contestant:
    return Contestant(name, function, arguments)


FLOAT32 = "fewlabels, float32"
TASKS: dict[str, list[Contestant]] = {
    "autoencoder": [
        ours("fewlabels", "autoencoder"),
        ours(FLOAT32, "autoencoder", "32"),
        peer("Lightning, 0 workers", "lightning_autoencoder", "0"),
        peer("Lightning, 2 workers", "lightning_autoencoder", "2"),
        peer("Lightning bf16, 0 workers", "lightning_autoencoder", "0", "bf16-mixed"),
        peer("Lightning bf16, 2 workers", "lightning_autoencoder", "2", "bf16-mixed"),
        peer("Keras", "keras_autoencoder"),
        peer("Keras bf16", "keras_autoencoder", "mixed_bfloat16"),
        peer("fastai", "fastai_autoencoder"),
    ],
    # As long as a pretraining of the default recipe: checkpoints come every ten seconds.
    "loop": [
        ours("fewlabels", "autoencoder", "auto", "6"),
        ours("bare loop", "bare_loop", "6"),
    ],
    "augment_digits": [
        ours("fewlabels", "augmentation", "digits"),
        peer("kornia", "kornia_digits", "default"),
        peer("kornia, fitted kernel", "kornia_digits", "fitted"),
    ],
    "augment_strong": [
        ours("fewlabels", "augmentation", "strong"),
        peer("torchvision v2", "torchvision_strong", "0"),
        peer("torchvision v2, 2 workers", "torchvision_strong", "2"),
    ],
    "lenet": [
        ours("fewlabels", "lenet"),
        ours(FLOAT32, "lenet", "32"),
        peer("Lightning, 0 workers", "lightning_lenet", "0"),
        peer("Lightning, 2 workers", "lightning_lenet", "2"),
        peer("Lightning bf16, 0 workers", "lightning_lenet", "0", "bf16-mixed"),
        peer("Lightning bf16, 2 workers", "lightning_lenet", "2", "bf16-mixed"),
    ],
    "opening": [
        ours("fewlabels, first opening", "first_opening"),
        ours("fewlabels, second opening", "second_opening"),
        peer("ImageFolder, 2 workers", "image_folder"),
    ],
    "prediction_mlp": [
        ours("fewlabels", "prediction", "mlp"),
        ours(FLOAT32, "prediction", "mlp", "32"),
        peer("scikit-learn, float64", "sklearn_prediction", "float64"),
        peer("scikit-learn, float32", "sklearn_prediction", "float32"),
        peer("Keras, batch 32", "keras_prediction", "mlp", "32"),
        peer("Keras, batch 1024", "keras_prediction", "mlp", "1024"),
        peer("Keras bf16, batch 1024", "keras_prediction", "mlp", "1024", "mixed_bfloat16"),
    ],
    "prediction_lenet": [
        ours("fewlabels", "prediction", "lenet"),
        ours(FLOAT32, "prediction", "lenet", "32"),
        peer("Keras, batch 32", "keras_prediction", "lenet", "32"),
        peer("Keras, batch 1024", "keras_prediction", "lenet", "1024"),
        peer("Keras bf16, batch 1024", "keras_prediction", "lenet", "1024", "mixed_bfloat16"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(EVERYTHING)}")
    parser.add_argument("--peers", required=True, help="Python of the peers' environment")
    parser.add_argument("--repetitions", type=int, default=FEWEST_REPETITIONS)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to add to")
    chosen = parser.parse_args()
    if chosen.repetitions < FEWEST_REPETITIONS and chosen.results.resolve() == RESULTS.resolve():
        parser.error(f"fewer than {FEWEST_REPETITIONS} repetitions need --results elsewhere")
    with tempfile.TemporaryDirectory() as folder:
        # Contestants are killed in the end: what they left lies here and goes with the folder.
        os.environ["TMPDIR"] = folder
        for name in chosen.tasks or EVERYTHING:
            if name in TASKS:
                prepare(name, Path(folder))
                result = compare(TASKS[name], chosen.peers, chosen.repetitions)
            else:
                result = EXTRA[name]()
            save(chosen.results, name, result)
        save(chosen.results, "peers", {"versions": versions(chosen.peers)})


def prepare(task: str, folder: Path) -> None:
    """Files that both sides read, and which must not stay: they hold a whole data set."""
    source = Path(os.environ["FEWLABELS_DATA"]) / "cifar10-jpeg"
    pixels, tree = folder / "cifar.npz", folder / "jpegs"
    if task in ("augment_strong", "lenet") and not pixels.exists():
        found = load_images(source)
        np.savez(pixels, images=found.images.transpose(0, 2, 3, 1), labels=found.labels)
    if task == "opening" and not tree.exists():
        write_jpegs(source, tree)
    os.environ |= {"BENCHMARK_CIFAR": str(pixels), "BENCHMARK_FOLDER": str(tree)}


def write_jpegs(source: Path, folder: Path) -> None:
    import pyarrow.parquet as parquet

    number = 0
    for file in sorted(source.glob("*.parquet")):
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                place = folder / str(row["label"])
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number:05d}.jpg").write_bytes(row["image"]["bytes"])
                number += 1


def compare(contestants: list[Contestant], peers: str, repetitions: int) -> dict[str, Any]:
    """Images per second of each contestant in each round, and what runs it."""
    speeds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    workers: list[Worker] = []
    facts: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        for contestant in contestants:
            workers.append(stack.enter_context(started(contestant, peers)))
            facts[contestant.name] = workers[-1].reply()
        for round_number in range(repetitions):
            # Every other round backwards, so that nobody always follows the same neighbour.
            for worker in workers if round_number % 2 == 0 else reversed(workers):
                reply = worker.go()
                speeds[worker.name].append(reply["images"] / reply["seconds"])
                print(f"{worker.name:32s} {speeds[worker.name][-1]:12,.0f} images/s", flush=True)
    return {"images_per_second": speeds, "repetitions": repetitions, "contestants": facts}


@dataclass(frozen=True)
class Worker:
    """A contestant's process; it blocks on its input while others run."""

    name: str
    process: subprocess.Popen[str]
    complaints: IO[str]

    def go(self) -> dict[str, Any]:
        """One repetition."""
        print("go", file=self.process.stdin, flush=True)
        return self.reply()

    def reply(self) -> dict[str, Any]:
        """What the process says next."""
        line = self.process.stdout.readline()
        if not line:
            self.complaints.seek(0)
            raise RuntimeError(f"{self.name} ended: {self.complaints.read()[-2000:]}")
        return json.loads(line)


@contextmanager
def started(contestant: Contestant, peers: str) -> Iterator[Worker]:
    python, module = (sys.executable, "ours") if contestant.ours else (peers, "peers")
    command = [python, str(HERE / "worker.py"), module, contestant.function, *contestant.arguments]
    # A file and no pipe: a library that prints a lot would fill a pipe and stand still.
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        try:
            yield Worker(contestant.name, process, complaints)
        finally:
            process.kill()


def measure_ceiling() -> dict[str, Any]:
    """What `fewlabels bench` prints, in both precisions, a few times."""
    rounds = [bench("cpu", precision) for _ in range(3) for precision in ("32", "bf16")]
    return {"rounds": rounds}


def measure_scaling() -> dict[str, Any]:
    """Pretraining on mapped colour images made on the fly."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(HERE / "scaling.py"), folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_profile() -> dict[str, Any]:
    """Where the time of the autoencoder epoch goes."""
    command = [sys.executable, str(HERE / "profile_epoch.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"shares": json.loads(done.stdout.splitlines()[-1])}


EXTRA = {"ceiling": measure_ceiling, "scaling": measure_scaling, "profile": measure_profile}
EVERYTHING = [*TASKS, *EXTRA]


def versions(peers: str) -> dict[str, str]:
    listing = subprocess.run(
        [peers, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    lines = (HERE / "peers.txt").read_text().splitlines()
    wanted = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    found = {row["name"]: row["version"] for row in json.loads(listing.stdout)}
    return {name: found[name] for name in sorted(wanted)}


def save(file: Path, task: str, result: dict[str, Any]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    results = json.loads(file.read_text()) if file.exists() else {}
    facts = {"date": f"{date.today()}", "commit": commit, "machine": environment()}
    results[task] = {**result, **facts}
    file.parent.mkdir(exist_ok=True)
    write_json(file, results)


if __name__ == "__main__":
    main()
