"""Batches of labelled and unlabelled images at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from fewlabels.contracts import Batch, Unlabelled
from fewlabels.data.batches import Augmentation, Batches, Mix, split_sizes
from fewlabels.data.selection import Images, select
from fewlabels.randomness import derive_seed, generator


class PairedBatches:
    """Every step brings some labelled and some unlabelled images.

    An epoch is one pass over the unlabelled images, or a part of one; the labelled ones go round as
    often as that takes, augmented anew each time. Where there are fewer of them than a batch holds,
    each comes several times in it.

    Args:
        images: the labelled ones, uint8 (N, C, H, W), or float32 in [0, 1].
        labels: int64 (N,).
        unlabelled: images of the same shape.
        labelled_batch_size: labelled images in a step, about.
        batch_size: unlabelled images in a step.
        views: augmentation of each view of the unlabelled images; None leaves them as they are.
        device: where batches go.
        augmentation: of the labelled images; None for none.
        mix: mixes labelled images; None for never.
        seed: of everything random.
        max_batches: steps after which an epoch ends; the next one draws its images anew.
    """

    def __init__(
        self,
        images: Images,
        labels: npt.NDArray[np.int64],
        unlabelled: Images,
        *,
        labelled_batch_size: int,
        batch_size: int,
        views: Sequence[Augmentation | None],
        device: torch.device,
        augmentation: Augmentation | None,
        mix: Mix | None = None,
        seed: int,
        max_batches: int | None = None,
    ) -> None:
        repeats = -(-labelled_batch_size // len(labels))
        places = np.tile(np.arange(len(labels)), repeats)
        # Equal parts of about the size that was asked for, rather than a last one that is small.
        parts = -(-len(places) // labelled_batch_size) if repeats == 1 else 1
        self._labelled = Batches(
            select(images, places),
            labels[places],
            batch_size=-(-len(places) // parts),
            device=device,
            augmentation=augmentation,
            mix=mix,
            seed=derive_seed(seed, "labelled"),
        )
        self._unlabelled = Batches(
            unlabelled,
            None,
            batch_size=batch_size,
            device=device,
            augmentation=None,
            seed=derive_seed(seed, "unlabelled"),
        )
        self.batch_size = batch_size
        self.device = device
        self.views = tuple(views)
        self.seed = seed
        self._sizes = split_sizes(self._unlabelled.num_images, batch_size)[:max_batches]

    @property
    def num_images(self) -> int:
        """Unlabelled images in an epoch."""
        return sum(self._sizes)

    @property
    def num_batches(self) -> int:
        """Steps in an epoch."""
        return len(self._sizes)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; no unlabelled image comes twice."""
        random = generator(self.seed, "views", epoch, device=self.device)
        labelled = self._labelled_from(epoch)
        for places, clean in islice(self._unlabelled.gathered(epoch), self.num_batches):
            views = tuple(view(clean, random) if view else clean for view in self.views)
            unlabelled = Unlabelled(
                clean=clean, views=views, positions=places.to(self.device, non_blocking=True)
            )
            yield replace(next(labelled), unlabelled=unlabelled)

    def _labelled_from(self, epoch: int) -> Iterator[Batch]:
        """Labelled batches without end, starting where this epoch's rounds start."""
        rounds = -(-self.num_batches // self._labelled.num_batches)
        number = epoch * rounds
        while True:
            yield from self._labelled.epoch(number)
            number += 1
