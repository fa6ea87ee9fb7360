"""Files that hold whole arrays, in one part or in several: what IDX and npz share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.arrays import array_facts
from fewlabels.data.decode_all import size_facts
from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.data.labels import encode_labels
from fewlabels.data.parts import settle_parts
from fewlabels.data.resize import Size, resize_images, usual_size
from fewlabels.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ArrayPart:
    """One part of a data set that comes as arrays.

    Attributes:
        name: first half of the ids ("train" for "train/00042"); "" for plain numbers.
        part: its role.
        count: number of images n.
        labels: (n,) or (n, 1), as the file has them; None where it has none.
    """

    name: str
    part: Part
    count: int
    labels: npt.NDArray[Any] | None


def join_images(
    arrays: list[npt.NDArray[Any]], source: str, image_size: Size | None
) -> npt.NDArray[Any]:
    """One array of all parts' images, brought to one size; `arrays` is emptied to free memory.

    Args:
        arrays: uint8 or float32 (n, C, H, W) each.
        source: what was read, for errors.
        image_size: None for the most common size, at most 96.

    Raises:
        DataError: the parts differ in type or channels.
    """
    kinds = {(str(array.dtype), array.shape[1]) for array in arrays}
    if len(kinds) > 1:
        kinds_text = " and ".join(f"{dtype} with {count}" for dtype, count in sorted(kinds))
        raise DataError(
            f"The parts of {source} must have images of one type and number of channels. "
            f"Got {kinds_text}."
        )
    sizes: Counter[Size] = Counter()
    for array in arrays:
        sizes[(array.shape[2], array.shape[3])] += len(array)
    size = image_size or usual_size(sizes)
    if len(arrays) == 1:
        return resize_images(arrays.pop(), size)
    shape = (sizes.total(), arrays[0].shape[1], *size)
    joined = np.empty(shape, dtype=arrays[0].dtype)
    start = 0
    while arrays:
        array = arrays.pop(0)
        joined[start : start + len(array)] = resize_images(array, size)
        start += len(array)
    return joined


def assemble(
    images: npt.NDArray[Any], parts: Sequence[ArrayPart], source: str, sizes: Counter[Size]
) -> ImageSet:
    """The image set of joined arrays.

    Args:
        images: uint8 or float32 (N, C, H, W), all parts one after the other.
        parts: what they are; their counts sum to N.
        source: what was read, for messages.
        sizes: how many images had each size before they were brought to one.

    Raises:
        DataError: a part has another number of labels than images, or labels that are not allowed.
    """
    for part in parts:
        if part.labels is not None and len(part.labels) != part.count:
            name = f" ({part.name})" if part.name else ""
            raise DataError(
                f"{source}{name} has {part.count} images but {len(part.labels)} labels. "
                "There must be one label for each image."
            )
    labels, class_names = _encode(parts, source)
    counts = [part.count for part in parts]
    roles = np.repeat(np.array([part.part for part in parts], dtype=np.int8), counts)
    settled, problems = settle_parts(roles, labels, source)
    height, width = images.shape[2:]
    return ImageSet(
        images=images,
        labels=labels,
        class_names=class_names,
        ids=np.array([name for part in parts for name in _ids(part)], dtype=np.str_),
        parts=settled,
        source=source,
        problems=problems,
        facts=array_facts(images) | size_facts(sizes, (height, width)),
    )


def _encode(
    parts: Sequence[ArrayPart], source: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    given = [np.asarray(part.labels) for part in parts if part.labels is not None]
    if not given:
        return np.full(sum(part.count for part in parts), NO_LABEL, dtype=np.int64), ()
    # One encoding for all parts, so that each class has one number.
    is_text = any(labels.dtype.kind in "US" for labels in given)
    values = [
        np.full(part.count, "" if is_text else NO_LABEL)
        if part.labels is None
        else _column(np.asarray(part.labels))
        for part in parts
    ]
    if len({labels.ndim for labels in values}) > 1:
        shapes = ", ".join(str(labels.shape) for labels in values)
        raise DataError(f"Labels of {source} must have one shape, (N,) or (N, 1). Got {shapes}.")
    return encode_labels(np.concatenate(values), source)


def _column(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _ids(part: ArrayPart) -> list[str]:
    prefix = f"{part.name}/" if part.name else ""
    return [f"{prefix}{index:05d}" for index in range(part.count)]
