"""Real MNIST and CIFAR-10."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.data.inspect import inspect_images

pytestmark = pytest.mark.real_data


def test_mnist(real_data: Path) -> None:
    data = load_images(real_data / "mnist")
    assert data.images.shape == (70_000, 1, 28, 28)
    assert np.flatnonzero(data.parts == Part.TEST).tolist() == list(range(60_000, 70_000))
    # The first labels of both parts, and the pixel mean 0.1307 that every tutorial standardises by.
    assert data.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.labels[60_000:60_005].tolist() == [7, 2, 1, 0, 4]
    assert data.images[:60_000].mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    found = inspect_images(data)
    assert found.classes["0"] == {"train": 5923, "test": 980}
    assert found.num_duplicates == 0


def test_mnist_takes_little_more_memory_than_its_pixels(real_data: Path) -> None:
    load_images(real_data / "mnist")  # imports what it needs
    tracemalloc.start()
    data = load_images(real_data / "mnist")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.images.nbytes <= peak < 1.3 * data.images.nbytes


def test_cifar_decodes_once(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    source = real_data / "cifar10-jpeg" / "test.parquet"
    start = time.perf_counter()
    first = load_images(source)
    decoding = time.perf_counter() - start
    assert first.images.shape == (10_000, 3, 32, 32)
    assert first.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(first.labels).tolist() == [1000] * 10
    for name, label in zip(first.ids[:200], first.labels[:200], strict=True):
        assert name.startswith(first.class_names[label])
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    start = time.perf_counter()
    second = load_images(source)
    assert time.perf_counter() - start < decoding / 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert np.array_equal(first.images, second.images)
    assert first.ids.tolist() == second.ids.tolist()
    assert first.facts == second.facts
