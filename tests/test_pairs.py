"""Labelled and unlabelled batches side by side."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabels.augment.policies import POLICIES, augment
from fewlabels.data.pairs import PairedBatches

CPU = torch.device("cpu")


def numbered(count: int, first: int = 0) -> np.ndarray:
    """Images whose pixels say which they are."""
    values = np.arange(first, first + count, dtype=np.float32) / 1000
    return np.broadcast_to(values.reshape(-1, 1, 1, 1), (count, 1, 4, 4)).copy()


def pairs(num_labelled: int, num_unlabelled: int, **more: object) -> PairedBatches:
    chosen: dict[str, object] = {
        "labelled_batch_size": 8,
        "batch_size": 10,
        "views": [None],
        "device": CPU,
        "augmentation": None,
        "seed": 0,
        **more,
    }
    labels = np.arange(num_labelled) % 3
    unlabelled = numbered(num_unlabelled, 500)
    return PairedBatches(numbered(num_labelled), labels, unlabelled, **chosen)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(2, 60), st.integers(0, 3))
def test_every_unlabelled_image_comes_once_and_labels_stay_with_their_images(
    num_labelled: int, num_unlabelled: int, epoch: int
) -> None:
    batches = list(pairs(num_labelled, num_unlabelled).epoch(epoch))
    seen = torch.cat([batch.unlabelled.positions for batch in batches])
    assert sorted(seen.tolist()) == list(range(num_unlabelled))
    for batch in batches:
        which = (batch.images[:, 0, 0, 0] * 1000).round().long()
        assert (batch.labels == which % 3).all()
        shown = (batch.unlabelled.clean[:, 0, 0, 0] * 1000).round().long() - 500
        assert (shown == batch.unlabelled.positions).all()


def test_labelled_images_go_round_evenly() -> None:
    counts = np.zeros(20, dtype=int)
    for batch in pairs(20, 100).epoch(0):  # 10 steps of 7 or 6 labelled images
        counts += np.bincount((batch.images[:, 0, 0, 0] * 1000).round().int(), minlength=20)
    assert counts.max() - counts.min() <= 1


def test_few_labelled_images_fill_a_batch() -> None:
    batch = next(pairs(3, 50).epoch(0))
    assert len(batch.images) == 9
    assert np.bincount(batch.labels).tolist() == [3, 3, 3]


def test_an_epoch_can_be_a_part_of_the_images() -> None:
    source = pairs(6, 100, max_batches=4)
    assert (source.num_batches, source.num_images) == (4, 40)
    first, second = ([b.unlabelled.positions for b in source.epoch(e)] for e in (0, 1))
    assert len(first) == 4
    assert len(torch.cat(first).unique()) == 40
    assert set(torch.cat(first).tolist()) != set(torch.cat(second).tolist())


def test_views_are_independent_and_epochs_repeat() -> None:
    view = partial(augment, policy=POLICIES["digits"])
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 12, 12), dtype=np.float32)
    source = PairedBatches(
        images[:6],
        np.arange(6) % 2,
        images,
        labelled_batch_size=4,
        batch_size=10,
        views=[view, view, None],
        device=CPU,
        augmentation=None,
        seed=3,
    )
    batch, again = next(source.epoch(2)), next(source.epoch(2))
    first, second, clean = batch.unlabelled.views
    assert not torch.equal(first, second)
    assert torch.equal(clean, batch.unlabelled.clean)
    assert torch.equal(first, again.unlabelled.views[0])
    assert torch.equal(batch.images, again.images)


def test_size_counts_the_unlabelled_images() -> None:
    batch = next(pairs(6, 50).epoch(0))
    assert batch.size == 10
    assert pytest.approx(batch.size) == len(batch.unlabelled.clean)
