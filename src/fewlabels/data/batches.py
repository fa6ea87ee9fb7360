"""Batches on the device: gathered, cast and augmented whole, never image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewlabels.contracts import Batch
from fewlabels.randomness import generator

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


class Batches:
    """A source of shuffled training batches.

    The order of an epoch and everything random in it depend only on `seed` and the epoch's number,
    so an epoch after a resume equals the undisturbed one.

    Args:
        images: uint8 (N, C, H, W), or float32 in [0, 1].
        labels: int64 (N,), or None for training without labels.
        batch_size: images a step; the last batch of an epoch may be smaller.
        device: where batches go.
        augmentation: applied to each batch; None for none.
        seed: of the order and of the augmentation.
    """

    def __init__(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[np.int64] | None,
        *,
        batch_size: int,
        device: torch.device,
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        self.images = as_tensor(images)
        self.labels = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels))
        self.batch_size = batch_size
        self.device = device
        self.augmentation = augmentation
        self.seed = seed

    @property
    def num_images(self) -> int:
        """Images in an epoch."""
        return len(self.images)

    @property
    def num_batches(self) -> int:
        """Steps in an epoch."""
        return len(split_sizes(self.num_images, self.batch_size))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, every image once."""
        order = torch.randperm(self.num_images, generator=generator(self.seed, "order", epoch))
        device_generator = generator(self.seed, "augment", epoch, device=self.device)
        for index in torch.split(order, split_sizes(self.num_images, self.batch_size)):
            clean = to_float(self.images[index].to(self.device))
            images = self.augmentation(clean, device_generator) if self.augmentation else clean
            labels = None if self.labels is None else self.labels[index].to(self.device)
            yield Batch(images=images, clean=clean, labels=labels, generator=device_generator)


def split_sizes(num_images: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches; a last batch of one joins the one before.

    Batch norm cannot take a variance over a single image.
    """
    full, rest = divmod(num_images, batch_size)
    sizes = [batch_size] * full
    if rest == 1 and full:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def as_tensor(images: npt.NDArray[Any]) -> Tensor:
    """The array as a tensor over the same memory; a copy where torch cannot share it."""
    # torch takes neither arrays that may not be written nor ones that run backwards.
    shareable = images.flags.writeable and min(images.strides, default=0) >= 0
    return torch.from_numpy(images if shareable else images.copy())


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; float images pass as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def channel_statistics(images: npt.NDArray[Any], limit: int = 10_000) -> tuple[Tensor, Tensor]:
    """Mean image, float32 (C, H, W), and deviation of each channel's pixels, (C,); in [0, 1].

    Args:
        images: uint8 or float32 (N, C, H, W).
        limit: of more images than this, every k-th is looked at, so many that at least `limit`
            are and fewer than twice as many.
    """
    sample = to_float(as_tensor(images[:: max(1, len(images) // limit)]))
    return sample.mean(dim=0), sample.std(dim=(0, 2, 3), unbiased=False)
