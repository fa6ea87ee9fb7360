"""Batches: every image once, the same again for the same seed and epoch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabels.data.batches import Batches, channel_statistics, split_sizes, to_float
from fewlabels.data.builtin import digits


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
