"""Pretraining speed and memory by number of images; see run.py.

    python benchmarks/speed/scaling.py FOLDER

Trains the same network on ten thousand, a hundred thousand and a million mapped images, taking
turns in one process, so that a slow minute of the machine hits all of them, and prints one JSON
line. An epoch of few images is repeated until about 600 steps are done.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np

from fewlabels.data.memory import mapping
from fewlabels.workflows.phases import Context, pretrain
from fewlabels.workflows.settings import load_settings

SHAPE = (3, 32, 32)
BATCH_SIZE = 256
STEPS = 600
COUNTS = (10_000, 100_000, 1_000_000)
ROUNDS = 5


def main() -> None:
    folder = Path(sys.argv[1])
    rows = []
    for round_number in range(ROUNDS):
        for count in COUNTS if round_number % 2 == 0 else reversed(COUNTS):
            rows.append({"images": count, "images_per_second": measure(folder, count)})
            print(rows[-1], file=sys.stderr, flush=True)
    # Of this program alone: getrusage also counts what ran in this process before it.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"rows": rows, "peak_bytes": peak}))


def measure(folder: Path, count: int) -> float:
    """Images a second."""
    file = folder / f"{count}.npy"
    if not file.exists():
        write(file, count)
    images = np.load(file, mmap_mode="c").view(np.ndarray)
    assert mapping(images) is not None
    settings = load_settings(
        "autoencoder",
        assignments=[
            "network.widths=[256]",
            "network.latent=none",
            f"pretraining.batch_size={BATCH_SIZE}",
            f"pretraining.epochs={max(1, STEPS * BATCH_SIZE // count)}",
            "pretraining.checkpoint_seconds=1000",
        ],
    )
    phase = pretrain(Context.of(settings), images).phase
    return statistics.median(float(row["images_per_second"]) for row in phase.history)


def write(file: Path, count: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
    rng = np.random.default_rng(0)
    with open(file, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            stream.write(rng.integers(0, 256, (size, *SHAPE), dtype=np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())  # or the disk would still be busy while the training is timed


if __name__ == "__main__":
    main()
