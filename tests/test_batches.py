"""Batches: every image once, the same again for the same seed and epoch."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabels.augment.mixing import mix
from fewlabels.blocks.losses import mixed_targets
from fewlabels.data.batches import Batches, channel_statistics, split_sizes, to_float
from fewlabels.data.builtin import digits
from fewlabels.data.memory import free_memory, keep, mapping
from fewlabels.data.options import Keep
from fewlabels.data.selection import Selection, select


def batches(num_images: int, batch_size: int, seed: int = 0) -> Batches:
    images = np.arange(num_images, dtype=np.uint8).reshape(-1, 1, 1, 1)
    labels = np.arange(num_images)
    device = torch.device("cpu")
    return Batches(
        images, labels, batch_size=batch_size, device=device, augmentation=None, seed=seed
    )


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_image_once(num_images: int, batch_size: int, epoch: int) -> None:
    source = batches(num_images, batch_size)
    parts = list(source.epoch(epoch))
    assert len(parts) == source.num_batches
    labels = torch.cat([batch.labels for batch in parts])
    assert sorted(labels.tolist()) == list(range(num_images))
    for batch in parts:
        expected = batch.labels.float() / 255
        torch.testing.assert_close(batch.images.flatten(), expected, atol=0, rtol=1e-6)
        assert len(batch.images) > 1 or batch_size == 1 or num_images == 1


def test_last_batch_of_one_joins_the_one_before() -> None:
    assert split_sizes(65, 32) == [32, 33]
    assert split_sizes(66, 32) == [32, 32, 2]
    assert split_sizes(1, 32) == [1]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([b.labels for b in batches(50, 16, seed).epoch(epoch)]).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_floats_pass_as_they_are() -> None:
    values = torch.rand(3, 1, 2, 2)
    assert torch.equal(to_float(values), values)


def test_statistics_equal_numpys() -> None:
    images = digits().images
    mean, deviation = channel_statistics(images)
    np.testing.assert_allclose(mean.numpy(), (images / 255).mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(deviation.numpy(), [(images / 255).std()], rtol=1e-4)


def test_a_selection_trains_on_its_images_alone_and_copies_nothing() -> None:
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)
    positions = np.array([90, 3, 57, 8])
    source = Batches(
        Selection(images, positions),
        np.array([0, 1, 2, 3]),
        batch_size=3,
        device=torch.device("cpu"),
        augmentation=None,
        seed=0,
    )
    assert source._pixels.data_ptr() == images.ctypes.data
    seen = [
        (round(float(value) * 255), int(label))
        for batch in source.epoch(0)
        for value, label in zip(batch.images.flatten(), batch.labels, strict=True)
    ]
    assert sorted(seen) == [(3, 1), (8, 3), (57, 2), (90, 0)]


def test_a_selection_is_indexing_in_two_steps() -> None:
    images = np.arange(60, dtype=np.uint8).reshape(10, 1, 2, 3)
    selection = select(select(images, np.array([7, 1, 4, 9])), np.array([3, 0, 1]))
    assert np.array_equal(selection[:], images[[9, 7, 1]])
    assert np.array_equal(selection[np.array([2, 2])], images[[1, 1]])
    assert (len(selection), selection.shape, selection.dtype) == (3, (3, 1, 2, 3), np.uint8)


def test_mapped_images_give_the_same_batches_and_little_resident_memory(tmp_path: Path) -> None:
    """A whole epoch over 600 MB in a process of its own."""
    file = tmp_path / "images.npy"
    mapped = np.lib.format.open_memmap(file, "w+", np.uint8, (200_000, 3, 32, 32))
    mapped[::1000] = 7
    mapped.flush()
    del mapped
    program = f"""
import resource, numpy as np, torch
from fewlabels.data.batches import Batches
images = np.load({str(file)!r}, mmap_mode="c").view(np.ndarray)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
device = torch.device("cpu")
source = Batches(images, None, batch_size=512, device=device, augmentation=None, seed=0)
total = sum(float(batch.images.sum()) for batch in source.epoch(0))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(round(total / 3072 * 255 / 7), grown // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total, grown_megabytes = (int(word) for word in done.stdout.split())
    assert total == 200
    assert grown_megabytes < 450  # 600 MB of pixels went by


def test_mixed_labels_reach_the_batch() -> None:
    images = np.zeros((8, 1, 2, 2), np.uint8)
    source = Batches(
        images,
        np.arange(8),
        batch_size=8,
        device=torch.device("cpu"),
        augmentation=None,
        mix=partial(mix, mixup=1.0, cutmix=0.0),
        seed=0,
    )
    (batch,) = source.epoch(0)
    assert batch.mixing is not None
    targets = mixed_targets(batch.labels, batch.mixing, 8)
    for row, label, partner, share in zip(
        targets, batch.labels, batch.mixing.partners, batch.mixing.share, strict=True
    ):
        expected = torch.zeros(8)
        expected[label] += share
        expected[batch.labels[partner]] += 1 - share
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize(
    ("where", "num_bytes", "held"),
    [("auto", 1000, True), ("auto", 3 << 30, False), ("memory", 1000, True), ("disk", 1000, False)],
)
def test_large_mapped_images_stay_on_disk(
    tmp_path: Path, where: Keep, num_bytes: int, held: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "images.npy"
    with open(file, "wb") as sparse:  # takes no room, however large
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_bytes // 100, 1, 10, 10)}
        np.lib.format.write_array_header_1_0(sparse, header)
        sparse.truncate(sparse.tell() + num_bytes // 100 * 100)
    mapped = np.load(file, mmap_mode="c").view(np.ndarray)
    kept = keep(mapped, where)
    assert (mapping(kept) is None) == held
    assert kept.shape == mapped.shape
    said = capsys.readouterr().err
    assert ("as they are needed" in said) == (num_bytes > 1000)


def test_images_in_memory_are_left_where_they_are() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    assert keep(images, "disk") is images
    assert mapping(images[1:3]) is None
    assert free_memory() > 1 << 20
