"""Labels of any kind to int64 positions in a list of class names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.image_set import NO_LABEL
from fewlabels.errors import DataError

Encoded = tuple[npt.NDArray[np.int64], tuple[str, ...]]
"""Labels, int64 (N,) with -1 for none, and the class names."""


def sort_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in order, each once: by value if all are whole numbers, else by text."""
    unique = set(names)
    if all(_is_whole_number(name) for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def encode_texts(
    texts: Sequence[str | None], where: str, class_names: Sequence[str] | None = None
) -> Encoded:
    """Turn class names into positions.

    Args:
        texts: one per image; None and "" mean no label.
        where: what the labels belong to, for errors.
        class_names: the classes, where they are known; else those that occur, sorted.

    Raises:
        DataError: a label is none of `class_names`.
    """
    known = tuple(class_names) if class_names is not None else None
    names = sort_class_names(text for text in texts if text) if known is None else known
    positions = {name: position for position, name in enumerate(names)}
    labels = np.full(len(texts), NO_LABEL, dtype=np.int64)
    for index, text in enumerate(texts):
        if not text:
            continue
        if text not in positions:
            raise DataError(
                f"The label {text!r} of {where} is none of its classes. "
                f"Allowed: {_list_some(names)}, or nothing for an image without label."
            )
        labels[index] = positions[text]
    return labels, names


def encode_labels(values: Any, where: str, class_names: Sequence[str] | None = None) -> Encoded:
    """Turn an array of labels into positions.

    Args:
        values: whole numbers (-1 for none), text ("" for none), or objects (None or NaN for none);
            shape (N,) or (N, 1).
        where: what the labels belong to, for errors.
        class_names: the classes, where they are known; whole numbers then are positions in it.

    Raises:
        DataError: a wrong shape or type, or a label outside the classes.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"Labels of {where} must be one number or text per image, shape (N,) or (N, 1). "
            f"Got shape {array.shape}."
        )
    if array.dtype.kind == "O":
        array = _from_objects(array)
    if array.dtype.kind == "f":
        array = _whole_numbers(array, where)
    if array.dtype.kind in "iu":
        return _encode_numbers(array.astype(np.int64), where, class_names)
    if array.dtype.kind in "USb":
        texts = [_text(value) for value in array.tolist()]
        return encode_texts(texts, where, class_names)
    raise DataError(f"Labels of {where} must be whole numbers or text. Got {array.dtype}.")


def _encode_numbers(
    numbers: npt.NDArray[np.int64], where: str, class_names: Sequence[str] | None
) -> Encoded:
    smallest = int(numbers.min(initial=0))
    if class_names is not None:
        if smallest < NO_LABEL or int(numbers.max(initial=NO_LABEL)) >= len(class_names):
            raise DataError(
                f"Labels of {where} must lie in 0…{len(class_names) - 1}, one number per class "
                f"name, or be -1 for none. Got {smallest}…{int(numbers.max())}."
            )
        return numbers, tuple(class_names)
    if smallest < NO_LABEL:
        raise DataError(
            f"Labels of {where} must be 0 or more, or -1 for none. Got {smallest}. "
            "Number the classes from 0, or use text."
        )
    classes = np.unique(numbers[numbers != NO_LABEL])
    labels = np.searchsorted(classes, numbers).astype(np.int64)
    labels[numbers == NO_LABEL] = NO_LABEL
    return labels, tuple(str(value) for value in classes.tolist())


def _whole_numbers(array: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    # pandas turns whole numbers with gaps into floats with NaN.
    missing = np.isnan(array)
    filled = np.where(missing, NO_LABEL, array)
    numbers: npt.NDArray[np.int64] = np.clip(filled, -(2.0**62), 2.0**62).astype(np.int64)
    if not np.array_equal(numbers, filled):
        wrong = filled[numbers != filled][0]
        raise DataError(
            f"Labels of {where} must be whole numbers or text. Got {wrong}: "
            "this package sorts into classes, it does not predict quantities."
        )
    return numbers


def _from_objects(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = [None if _is_missing(value) else value for value in array.tolist()]
    present = [value for value in values if value is not None]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        filled = [NO_LABEL if value is None else value for value in values]
        return np.array(filled, dtype=np.int64)
    return np.array([_text(value) for value in values], dtype=np.str_)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_whole_number(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def _list_some(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
