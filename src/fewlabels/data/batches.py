"""Batches on the device: gathered, cast and augmented whole, never image by image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewlabels.contracts import Batch, Mixing
from fewlabels.data.memory import gather, mapping
from fewlabels.data.selection import Images, Selection, select
from fewlabels.randomness import generator

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
Mix = Callable[[Tensor, torch.Generator], tuple[Tensor, Mixing]]

# An accelerator's free memory that images may take; the rest is for weights and activations.
_DEVICE_SHARE = 0.4
_STATISTICS_IMAGES = 512


class BatchSource(Protocol):
    """What a trainer takes its batches from."""

    batch_size: int

    @property
    def num_images(self) -> int:
        """Images in an epoch."""

    @property
    def num_batches(self) -> int:
        """Steps in an epoch."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, which depend on its number and the source's seed alone."""


class Batches:
    """A source of shuffled training batches.

    The order of an epoch and everything random in it depend only on `seed` and the epoch's number,
    so an epoch after a resume equals the undisturbed one.

    Pixels stay as they are stored until a batch is gathered. On an accelerator, the whole set lies
    in its memory where it fits; else each batch goes there from pinned memory, without waiting.

    Args:
        images: uint8 (N, C, H, W), or float32 in [0, 1]; in memory or mapped, whole or selected.
        labels: int64 (N,), or None for training without labels.
        batch_size: images a step; the last batch of an epoch may be smaller.
        device: where batches go.
        augmentation: applied to each batch; None for none.
        mix: mixes augmented images with labels; None for never.
        seed: of the order and of the augmentation.
        num_views: how many differently augmented views of each image there are.
    """

    def __init__(
        self,
        images: Images,
        labels: npt.NDArray[np.int64] | None,
        *,
        batch_size: int,
        device: torch.device,
        augmentation: Augmentation | None,
        mix: Mix | None = None,
        seed: int,
        num_views: int = 1,
    ) -> None:
        chosen = images if isinstance(images, Selection) else Selection(images, _all(images))
        self.batch_size = batch_size
        self.device = device
        self.augmentation = augmentation
        self.mix = mix
        self.num_views = num_views
        self.seed = seed
        self.labels = None if labels is None else torch.tensor(labels, device=device)
        self._stored = chosen.images
        self._pixels = as_tensor(chosen.images)
        self._positions = torch.from_numpy(chosen.positions)
        if _fits(chosen, device):
            self._pixels = self._pixels[self._positions].to(device)
            self._positions = torch.arange(len(chosen), device=device)

    @property
    def num_images(self) -> int:
        """Images in an epoch."""
        return len(self._positions)

    @property
    def num_batches(self) -> int:
        """Steps in an epoch."""
        return len(split_sizes(self.num_images, self.batch_size))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, every image once."""
        for_augmentation = generator(self.seed, "augment", epoch, device=self.device)
        for_objective = generator(self.seed, "objective", epoch, device=self.device)
        for places, clean in self.gathered(epoch):
            images, *further = (
                self.augmentation(clean, for_augmentation) if self.augmentation else clean
                for _ in range(self.num_views)
            )
            labels = mixing = None
            if self.labels is not None:
                labels = self.labels[places.to(self.device)]
                if self.mix is not None:
                    images, mixing = self.mix(images, for_augmentation)
            yield Batch(
                images=images,
                clean=clean,
                labels=labels,
                generator=for_objective,
                mixing=mixing,
                further_views=tuple(further),
            )

    def gathered(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Places, int64 (B,) on the CPU, and images of one epoch's batches, not augmented."""
        order = torch.randperm(self.num_images, generator=generator(self.seed, "order", epoch))
        for places in torch.split(order, split_sizes(self.num_images, self.batch_size)):
            yield places, to_float(self._gather(places))

    def _gather(self, places: Tensor) -> Tensor:
        """Images as they are stored, on the device."""
        if self._pixels.device.type != "cpu":
            return self._pixels[places.to(self._pixels.device)]
        positions = self._positions[places]
        if mapping(self._stored) is not None:
            gathered = as_tensor(gather(self._stored, positions.numpy()))
        else:  # copies whole images, where indexing by a tensor goes pixel by pixel
            gathered = self._pixels.index_select(0, positions)
        if self.device.type == "cuda":
            return gathered.pin_memory().to(self.device, non_blocking=True)
        return gathered.to(self.device)


def _all(images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.arange(len(images), dtype=np.int64)


def _fits(images: Selection, device: torch.device) -> bool:
    """Whether the images may all lie in an accelerator's own memory."""
    if device.type != "cuda":
        return False
    num_bytes = int(np.prod(images.shape)) * images.dtype.itemsize
    return num_bytes <= torch.cuda.mem_get_info(device)[0] * _DEVICE_SHARE


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
    """The array as a tensor over the same memory, to read from; a copy where it runs backwards."""
    with warnings.catch_warnings():
        # Arrays that may not be written, as mapped ones: nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images if min(images.strides, default=0) >= 0 else images.copy())


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; float images pass as they are."""
    return torch.div(images, 255) if images.dtype == torch.uint8 else images.float()


def channel_statistics(images: Images, limit: int = 10_000) -> tuple[Tensor, Tensor]:
    """Mean image, float32 (C, H, W), and deviation of each channel's pixels, (C,); in [0, 1].

    Args:
        images: uint8 or float32 (N, C, H, W).
        limit: of more images than this, every k-th is looked at, so many that at least `limit`
            are and fewer than twice as many.
    """
    looked_at = select(images, np.arange(0, len(images), max(1, len(images) // limit)))
    total = torch.zeros(images.shape[1:], dtype=torch.float64)
    squares = torch.zeros(images.shape[1], dtype=torch.float64)
    for start in range(0, len(looked_at), _STATISTICS_IMAGES):
        part = to_float(as_tensor(looked_at[start : start + _STATISTICS_IMAGES])).double()
        total += part.sum(dim=0)
        squares += part.square().sum(dim=(0, 2, 3))
    mean = total / len(looked_at)
    pixels = len(looked_at) * images.shape[2] * images.shape[3]
    variance = squares / pixels - mean.mean(dim=(1, 2)).square()
    return mean.float(), variance.clamp_min(0).sqrt().float()
