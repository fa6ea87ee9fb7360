"""The images that both sides of a comparison get; nothing but the standard library and NumPy."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

DATA = Path(os.environ["FEWLABELS_DATA"])


def mnist(part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels int64 (N,); part is "train" or "t10k"."""
    images, labels = (
        np.frombuffer(
            gzip.decompress((DATA / "mnist" / f"{part}-{name}.gz").read_bytes()), np.uint8
        )
        for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return images[16:].reshape(-1, 28, 28), labels[8:].astype(np.int64)


def cifar_pixels() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (50000, 32, 32, 3) and labels int64 (N,), decoded once by the driver."""
    saved = np.load(os.environ["BENCHMARK_CIFAR"])
    return saved["images"], saved["labels"]
