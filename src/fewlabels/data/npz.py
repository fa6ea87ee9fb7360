"""NumPy archives: `images` and `labels`, or MedMNIST's `train_images`, `train_labels`, `val_…`,
`test_…`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from fewlabels.data.array_files import ArrayPart, assemble, join_images
from fewlabels.data.arrays import as_image_array
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.options import ReadOptions
from fewlabels.data.resize import Size
from fewlabels.errors import DataError

_KEYS = (
    ("images", "labels", "", Part.POOL),
    ("train_images", "train_labels", "train", Part.POOL),
    ("val_images", "val_labels", "validation", Part.VALIDATION),
    ("test_images", "test_labels", "test", Part.TEST),
)


def read(path: Path, options: ReadOptions) -> ImageSet:
    """Read a NumPy archive.

    Args:
        path: the .npz file.
        options: `image_size` is used.

    Raises:
        DataError: it is no archive, lacks the names, or holds arrays that are not allowed.
    """
    try:
        # Opened here, since NumPy leaves the file open where it is no archive.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it holds one bare array")
            with archive:
                parts, arrays = _read_parts(archive, path)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        reason = (str(error).splitlines() or ["it ends early"])[0].rstrip(".")
        raise DataError(
            f"{path} cannot be read as a NumPy archive: {reason}. Write it with numpy.savez, with "
            "arrays of numbers or text."
        ) from None
    except MemoryError:
        raise DataError(f"The arrays of {path} do not fit into memory.") from None
    sizes: Counter[Size] = Counter()
    for array in arrays:
        sizes[(array.shape[2], array.shape[3])] += len(array)
    images = join_images(arrays, str(path), options.image_size)
    return assemble(images, parts, str(path), sizes)


def _read_parts(archive: NpzFile, path: Path) -> tuple[list[ArrayPart], list[npt.NDArray[Any]]]:
    parts, arrays = [], []
    for images_key, labels_key, name, part in _KEYS:
        if images_key not in archive:
            continue
        where = f"{path}: {images_key}"
        images = as_image_array(archive[images_key], where)
        labels = archive.get(labels_key)
        if labels is not None and len(np.atleast_1d(labels)) != len(images):
            raise DataError(
                f"{path} has {len(images)} {images_key} but {len(np.atleast_1d(labels))} "
                f"{labels_key}. There must be one label for each image."
            )
        arrays.append(images)
        parts.append(ArrayPart(name=name, part=part, count=len(images), labels=labels))
    if not arrays:
        found = ", ".join(archive.files) or "nothing"
        raise DataError(
            f"{path} must hold arrays named images and labels, or train_images, train_labels, "
            f"val_images, … Got: {found}."
        )
    if len(parts) > 1 and not parts[0].name:
        raise DataError(
            f"{path} holds both images and {parts[1].name}_images. Keep one of the two forms."
        )
    return parts, arrays
