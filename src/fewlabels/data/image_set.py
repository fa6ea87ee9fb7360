"""The one form that all image data takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.errors import DataError

NO_LABEL = -1
"""The label of an image that has none; scikit-learn's convention."""


class Part(IntEnum):
    """Which official part of the data an image belongs to."""

    POOL = 0  # everything without an official role: split by us
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about the data that was skipped or looks wrong, never hidden.

    Attributes:
        kind: "broken", "missing_image", "duplicate_row", "ignored", "too_large", "part", "dark",
            "changed" or "label".
        where: relative path or row.
        message: one clause for a person.
    """

    kind: str
    where: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images, optional labels, class names and stable ids.

    Attributes:
        images: uint8 (N, C, H, W), C is 1 (grey) or 3 (red, green, blue). Arrays that were handed
            over as floats stay float32 in [0, 1].
        labels: int64 (N,), position in `class_names`, -1 for none.
        class_names: K names.
        ids: text (N,), unique; relative paths, or "train/00042" style positions.
        parts: int8 (N,), values of `Part`.
        source: what was read, for messages.
        problems: what was skipped or looks wrong.
        facts: counts gathered while reading ("modes", "sizes", "resized"), for `inspect`.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    ids: npt.NDArray[np.str_]
    parts: npt.NDArray[np.int8]
    source: str
    problems: tuple[Problem, ...] = ()
    facts: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def num_classes(self) -> int:
        """Number of class names."""
        return len(self.class_names)

    @property
    def labelled(self) -> npt.NDArray[np.intp]:
        """Positions of the images that have a label."""
        return np.flatnonzero(self.labels != NO_LABEL)

    def take(self, positions: npt.NDArray[np.intp] | Sequence[int]) -> ImageSet:
        """The images at `positions`, in that order."""
        index = np.asarray(positions, dtype=np.intp)
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            ids=self.ids[index],
            parts=self.parts[index],
        )

    def with_labels(self, labels: npt.NDArray[np.int64]) -> ImageSet:
        """The same images with other labels."""
        return replace(self, labels=labels)


def _check(data: ImageSet) -> None:
    images, count = data.images, len(data.images)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(
            f"Images of {data.source} must have shape (N, C, H, W) with 1 or 3 channels. "
            f"Got {images.shape}."
        )
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(f"Images of {data.source} must be uint8 or float32. Got {images.dtype}.")
    for name, array in (("labels", data.labels), ("ids", data.ids), ("parts", data.parts)):
        if array.shape != (count,):
            raise DataError(
                f"{data.source} has {count} images but {len(array)} {name}. "
                "There must be one for each image."
            )
    if count and (data.labels.min() < NO_LABEL or data.labels.max() >= data.num_classes):
        raise DataError(
            f"Labels of {data.source} must lie in 0…{data.num_classes - 1}, or be -1 for none. "
            f"Got {data.labels.min()}…{data.labels.max()}."
        )
    if len(np.unique(data.ids)) != count:
        raise DataError(f"Image ids of {data.source} must be unique.")
