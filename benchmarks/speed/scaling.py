"""Pretraining speed and memory at one number of images; see run.py.

    python benchmarks/speed/scaling.py FOLDER COUNT

Trains the same 600 steps of 256 images however many there are, over as many epochs as that takes,
and prints one JSON line.
"""

from __future__ import annotations

import json
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


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    file = folder / f"{count}.npy"
    if not file.exists():
        write(file, count)
    images = np.load(file, mmap_mode="c").view(np.ndarray)
    assert mapping(images) is not None
    # Of many images a part of an epoch does: the positions are drawn from all of them.
    epochs = max(1, STEPS * BATCH_SIZE // count)
    settings = load_settings(
        "autoencoder",
        assignments=[
            "network.widths=[256]",
            "network.latent=none",
            f"pretraining.batch_size={BATCH_SIZE}",
            f"pretraining.epochs={epochs}",
            "pretraining.checkpoint_seconds=1000",
        ],
    )
    phase = pretrain(Context.of(settings), images).phase
    speed = statistics.median(float(row["images_per_second"]) for row in phase.history)
    # Of this program alone: getrusage also counts what ran in this process before it.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"images": count, "images_per_second": speed, "peak_bytes": peak}))


def write(file: Path, count: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
    rng = np.random.default_rng(0)
    with open(file, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            stream.write(rng.integers(0, 256, (size, *SHAPE), dtype=np.uint8).data)


if __name__ == "__main__":
    main()
