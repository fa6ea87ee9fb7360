"""NumPy arrays and torch tensors as an image set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.data.labels import Encoded, encode_labels
from fewlabels.data.parts import settle_parts
from fewlabels.errors import DataError

_CHANNELS = (1, 3)


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    parts: Sequence[int] | None = None,
    source: str = "the given arrays",
) -> ImageSet:
    """Make an image set of arrays or tensors.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3; uint8, whole numbers in
            0…255, uint16 (scaled by its full range), booleans, or floats in [0, 1].
        labels: (N,) or (N, 1): whole numbers with -1 for none, or text with "" or None for none;
            None where no image has one.
        class_names: K names; whole numbers then are positions in it.
        ids: N texts; "0", "1", … by default.
        parts: N values of `Part`; all in the pool by default.
        source: what the arrays are, for messages.

    Raises:
        DataError: a shape, type or value that is not allowed, or counts that differ.
    """
    pixels = as_image_array(images, source)
    count = len(pixels)
    encoded, names = _encode(labels, count, source, class_names)
    own_ids = [str(index) for index in range(count)] if ids is None else ids
    own_parts = np.asarray([Part.POOL] * count if parts is None else parts, dtype=np.int8)
    if own_parts.shape != (count,):
        raise DataError(f"{source} has {count} images but {len(own_parts)} parts. Give one each.")
    own_parts, problems = settle_parts(own_parts, encoded, source)
    return ImageSet(
        images=pixels,
        labels=encoded,
        class_names=names,
        ids=np.array(own_ids, dtype=np.str_),
        parts=own_parts,
        source=source,
        problems=problems,
        facts=array_facts(pixels),
    )


def _encode(labels: Any, count: int, source: str, class_names: Sequence[str] | None) -> Encoded:
    if labels is None:
        return np.full(count, NO_LABEL, dtype=np.int64), tuple(class_names or ())
    encoded, names = encode_labels(as_numpy(labels), source, class_names)
    if len(encoded) != count:
        raise DataError(
            f"{source} has {count} images but {len(encoded)} labels. "
            "There must be one label for each image, -1 for none."
        )
    return encoded, names


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """A NumPy view of an array, tensor (on any device) or sequence."""
    if hasattr(values, "detach"):  # a torch tensor, known without importing torch
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    return np.asarray(values)


def as_image_array(values: Any, source: str) -> npt.NDArray[Any]:
    """Images of any allowed shape and type as uint8 or float32 (N, C, H, W); uint8 is not copied
    where the shape allows.

    Args:
        values: see `from_arrays`.
        source: what the images are, for errors.

    Raises:
        DataError: a shape, type or value that is not allowed.
    """
    array = _with_channels(as_numpy(values), source)
    if not array.size:
        raise DataError(f"{source} holds no images: its shape is {array.shape}.")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255)
    smallest, largest = array.min(), array.max()
    if array.dtype.kind == "f":
        if smallest >= 0 and largest <= 1:  # false for NaN
            return np.ascontiguousarray(array, dtype=np.float32)
        raise DataError(
            f"Images of {source} given as floats must lie in 0…1. Got {smallest:g}…{largest:g}. "
            "Divide by the largest possible value, or give uint8."
        )
    if array.dtype == np.uint16:
        scaled: npt.NDArray[np.uint32] = (array.astype(np.uint32) * 255 + 32767) // 65535
        return np.ascontiguousarray(scaled.astype(np.uint8))
    if smallest >= 0 and largest <= 255:
        return np.ascontiguousarray(array.astype(np.uint8))
    raise DataError(
        f"Images of {source} given as whole numbers must lie in 0…255. Got {smallest}…{largest}. "
        "Scale them, or give floats in 0…1."
    )


def array_facts(images: npt.NDArray[Any]) -> dict[str, dict[str, int]]:
    """The facts "modes", "sizes" and "resized" of an array whose images are all alike.

    Args:
        images: (N, C, H, W).
    """
    count, channels, height, width = images.shape
    return {
        "modes": {"L" if channels == 1 else "RGB": count},
        "sizes": {f"{height}x{width}": count},
        "resized": {"images": 0},
    }


def _with_channels(array: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in "uifb":
        raise DataError(f"Images of {source} must be numbers in one array. Got {array.dtype}.")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in _CHANNELS:
        return array.transpose(0, 3, 1, 2)
    if array.ndim == 4 and array.shape[1] in _CHANNELS:
        return array
    raise DataError(
        f"Images of {source} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with "
        f"C = 1 or 3. Got {array.shape}."
    )
