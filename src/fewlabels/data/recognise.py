"""Which form an image set has, by what lies at its path."""

from __future__ import annotations

import os
from pathlib import Path

from fewlabels.data.decode import EXTENSIONS
from fewlabels.data.idx import is_idx_file, is_idx_name
from fewlabels.errors import DataError
from fewlabels.lookup import close_matches

_ALLOWED = (
    "Allowed: a folder of images, of IDX or of Parquet files, or an .npz, .parquet or IDX file"
)


def recognise(path: Path, labels: Path | None) -> str:
    """The name of the reader for what lies at a path.

    Args:
        path: where the image set should be.
        labels: a label file, if one was named.

    Raises:
        DataError: there is nothing, or something of no known form.
    """
    if not path.exists():
        raise DataError(_missing_sentence(path))
    if labels is not None:
        if not path.is_dir():
            raise DataError(
                f"A label file (--labels) joins a folder of images, but {path} is a file. "
                "Name the folder, or leave --labels out."
            )
        return "label_file"
    return _recognise_folder(path) if path.is_dir() else _recognise_file(path)


def is_image_name(name: str) -> bool:
    """Whether a file's extension is that of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _recognise_folder(path: Path) -> str:
    try:
        names = os.listdir(path)
    except OSError as error:
        raise DataError(
            f"The folder {path} cannot be listed: {error.strerror}. Check its permissions."
        ) from None
    if any(is_idx_name(name) for name in names):
        return "idx"
    if _has_parquet(path) and not _has_image(path):
        return "parquet"
    return "folder"


def _recognise_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".npz", ".parquet"):
        return suffix[1:]
    if is_idx_name(path.name) or is_idx_file(path):
        return "idx"
    if is_image_name(path.name):
        raise DataError(f"{path} is a single image, no image set. {_ALLOWED}.")
    hint = " Unpack it first." if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z") else ""
    raise DataError(f"{path} is no image set.{hint} {_ALLOWED}.")


def _has_parquet(folder: Path) -> bool:
    return any(True for place in (folder, folder / "data") for _ in place.glob("*.parquet"))


def _has_image(folder: Path) -> bool:
    return any(is_image_name(name) for _, _, names in os.walk(folder) for name in names)


def _missing_sentence(path: Path) -> str:
    try:
        matches = close_matches(path.name, os.listdir(path.parent))
    except OSError:
        matches = []
    near = " or ".join(str(path.parent / match) for match in matches)
    hint = f"Did you mean {near}?" if matches else "Check the path."
    return f"There is no image set at {path}. {hint}"
