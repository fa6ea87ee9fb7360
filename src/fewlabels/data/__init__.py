"""Reading image sets of any form.

``load_images`` is the door; each form has a reader, one module of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewlabels.data.options import Keep, ReadOptions

if TYPE_CHECKING:
    from fewlabels.data.image_set import ImageSet

Reader = Callable[[Path, ReadOptions], "ImageSet"]


def _read_folder(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import folder

    return folder.read(path, options)


def _read_idx(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import idx

    return idx.read(path, options) if path.is_dir() else idx.read_file(path, options)


def _read_label_file(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import label_file

    return label_file.read(path, options)


def _read_npz(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import npz

    return npz.read(path, options)


def _read_parquet(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import parquet

    return parquet.read(path, options)


# Functions that import on call: a command that reads no Parquet should not wait for pyarrow.
READERS: dict[str, Reader] = {
    "folder": _read_folder,
    "idx": _read_idx,
    "label_file": _read_label_file,
    "npz": _read_npz,
    "parquet": _read_parquet,
}
"""Every form of image set on disk, and what reads it."""


def _digits() -> ImageSet:
    from fewlabels.data import builtin

    return builtin.digits()


def _mnist() -> ImageSet:
    from fewlabels.data import builtin

    return builtin.mnist()


BUILTIN: dict[str, Callable[[], ImageSet]] = {"digits": _digits, "mnist": _mnist}
"""Image sets that come by name, where no path of that name exists."""


def load_images(
    source: str | Path,
    *,
    labels: str | Path | None = None,
    image_size: int | str | None = None,
    cache: bool = True,
    keep: Keep = "auto",
) -> ImageSet:
    """Read an image set of any form.

    Args:
        source: a folder of images (a class per sub-folder), of IDX or of Parquet files; an .npz,
            .parquet or IDX file; or "digits" or "mnist".
        labels: a CSV or Parquet file with the columns image and label, for a folder of images.
        image_size: one side in pixels, or "HEIGHTxWIDTH"; the most common size, at most 96, by
            default.
        cache: keep decoded images on disk for the next start.
        keep: where decoded images are kept meanwhile: "memory", "disk" (read from the cache as they
            are needed), or "auto": in memory up to an eighth of what is free and up to 1 GiB.

    Raises:
        DataError: there is no image set of a known form, or it cannot be used.
        ConfigError: `image_size` is no size.
        DownloadError: "mnist" cannot be downloaded.
    """
    from fewlabels.data.resize import parse_image_size

    options = ReadOptions(
        labels=None if labels is None else Path(labels).expanduser(),
        image_size=parse_image_size(image_size),
        cache=cache,
        keep=keep,
    )
    return _load(source, options)[0]


def load_for_prediction(
    source: str | Path,
    image_shape: tuple[int, int, int],
    *,
    labels: str | Path | None = None,
    cache: bool = True,
) -> ImageSet:
    """Read images in the shape that a model expects.

    Args:
        source: anything that `load_images` reads, or one image file.
        image_shape: channels, height, width of the result; grey is repeated to colour, colour
            becomes grey by its luminance.
        labels: see `load_images`.
        cache: see `load_images`.

    Returns:
        The images in file order; ids are relative paths, or "0", "1", … for arrays.

    Raises:
        DataError: there is nothing of a known form, or no image can be read.
        DownloadError: "mnist" cannot be downloaded.
    """
    import numpy as np

    from fewlabels.data.channels import match_channels

    num_channels, height, width = image_shape
    options = ReadOptions(
        labels=None if labels is None else Path(labels).expanduser(),
        image_size=(height, width),
        cache=cache,
    )
    data, reader = _load(source, options, single=True)
    images = match_channels(data.images, num_channels)
    if reader in ("idx", "npz"):
        return replace(data, images=images, ids=np.arange(len(data)).astype(np.str_))
    return replace(data, images=images)


def _load(
    source: str | Path, options: ReadOptions, single: bool = False
) -> tuple[ImageSet, str | None]:
    """The image set, and the name of its reader; None for one that came by name."""
    from fewlabels.data.memory import keep as keep_images
    from fewlabels.data.recognise import is_image_name, recognise
    from fewlabels.data.resize import resize_images

    path = Path(source).expanduser()
    if str(source) in BUILTIN and not path.exists() and options.labels is None:
        data = BUILTIN[str(source)]()
        if options.image_size is not None:
            data = replace(data, images=resize_images(data.images, options.image_size))
        return data, None
    if single and path.is_file() and is_image_name(path.name):
        return _read_single(path, options), None
    reader = recognise(path, options.labels)
    data = READERS[reader](path, options)
    return replace(data, images=keep_images(data.images, options.keep)), reader


def _read_single(path: Path, options: ReadOptions) -> ImageSet:
    from fewlabels.data import folder

    return folder.read_single(path, options)
