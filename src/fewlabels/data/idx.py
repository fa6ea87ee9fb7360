"""MNIST-style IDX files, plain or gzipped: a folder of them, or a single file of images.

Source: the format as described with The MNIST Database (LeCun, Cortes, Burges).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fewlabels.data.array_files import ArrayPart, assemble
from fewlabels.data.arrays import as_image_array
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.options import ReadOptions
from fewlabels.data.parts import PART_NAMES, part_of_name
from fewlabels.data.resize import Size, resize_images, usual_size
from fewlabels.errors import DataError

_NAME = re.compile(r"(?P<prefix>.*?)[-_.]?(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?", re.I)
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20
# Deflate cannot shrink further, so a header that announces more is wrong (RFC 1951).
_LARGEST_GZIP_RATIO = 1032


@dataclass(frozen=True, kw_only=True)
class _Pair:
    images: Path
    labels: Path | None
    part: Part


@dataclass(frozen=True, kw_only=True)
class _Header:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def is_idx_name(name: str) -> bool:
    """Whether a file is called like an IDX file, "train-images-idx3-ubyte.gz" for example."""
    return _NAME.fullmatch(name) is not None


def is_idx_file(path: Path) -> bool:
    """Whether a file begins like IDX images, plain or gzipped."""
    try:
        _checked_header(path)
    except DataError:
        return False
    return True


def read(path: Path, options: ReadOptions) -> ImageSet:
    """Read a folder of IDX files; files called t10k or test are the official test part.

    Args:
        path: the folder.
        options: `image_size` is used.

    Raises:
        DataError: files are damaged, do not belong together, or hold something else than images.
    """
    pairs = _find_pairs(path)
    headers = [_checked_header(pair.images) for pair in pairs]
    shapes = {header.shape[1:] for header in headers}
    if len(shapes) > 1:
        raise DataError(f"The IDX files of {path} hold images of different sizes: {shapes}.")
    images = np.empty((sum(header.shape[0] for header in headers), *shapes.pop()), dtype=np.uint8)
    parts, start = [], 0
    for pair, header in zip(pairs, headers, strict=True):
        count = header.shape[0]
        _read_into(pair.images, images[start : start + count])
        start += count
        parts.append(_array_part(pair, count))
    return _image_set(images, parts, str(path), options.image_size)


def read_file(path: Path, options: ReadOptions) -> ImageSet:
    """Read one IDX file of images, without labels.

    Args:
        path: the file.
        options: `image_size` is used.

    Raises:
        DataError: it is damaged, or holds something else than images.
    """
    images = np.empty(_checked_header(path).shape, dtype=np.uint8)
    _read_into(path, images)
    part = ArrayPart(name="", part=Part.POOL, count=len(images), labels=None)
    return _image_set(images, [part], str(path), options.image_size)


def _image_set(
    images: npt.NDArray[np.uint8],
    parts: Sequence[ArrayPart],
    source: str,
    image_size: Size | None,
) -> ImageSet:
    pixels = as_image_array(images, source)
    own_size = (pixels.shape[2], pixels.shape[3])
    sizes = Counter({own_size: len(pixels)})
    return assemble(resize_images(pixels, image_size or usual_size(sizes)), parts, source, sizes)


def _find_pairs(folder: Path) -> list[_Pair]:
    """Image files with their label files, in the order train, validation, test."""
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # the plain file wins over its .gz
        match = _NAME.fullmatch(path.name)
        if match is not None and path.is_file():
            files[(match["what"].lower(), match["prefix"].lower())] = path
    pairs: dict[Part, _Pair] = {}
    for (what, prefix), path in sorted(files.items()):
        if what == "labels":
            if ("images", prefix) not in files:
                raise DataError(
                    f"{path} has labels, but the folder has no images for them. "
                    f"Put {path.name.replace('labels-idx1', 'images-idx3')} beside it."
                )
            continue
        part = part_of_name(prefix) or Part.POOL
        if part in pairs:
            raise DataError(
                f"{folder} holds two {PART_NAMES[part]} sets of IDX images, "
                f"{pairs[part].images.name} and {path.name}. Put each in a folder of its own."
            )
        pairs[part] = _Pair(images=path, labels=files.get(("labels", prefix)), part=part)
    return [pairs[part] for part in sorted(pairs)]


def _array_part(pair: _Pair, count: int) -> ArrayPart:
    labels: npt.NDArray[Any] | None = None
    if pair.labels is not None:
        header = _header(pair.labels)
        if len(header.shape) != 1 or header.dtype.kind not in "ui":
            raise DataError(
                f"{pair.labels} must hold one whole number per image (IDX magic 00 00 08 01). "
                f"Got {header.dtype} of shape {header.shape}."
            )
        if header.shape[0] != count:
            raise DataError(
                f"{pair.images} has {count} images, but {pair.labels.name} has {header.shape[0]} "
                "labels. There must be one label for each image; fetch the two files again."
            )
        labels = np.empty(header.shape, dtype=header.dtype)
        _read_into(pair.labels, labels)
    return ArrayPart(name=PART_NAMES[pair.part], part=pair.part, count=count, labels=labels)


def _checked_header(path: Path) -> _Header:
    header = _header(path)
    if header.dtype != np.uint8 or len(header.shape) not in (3, 4):
        raise DataError(
            f"{path} must hold uint8 images (IDX magic 00 00 08 03). "
            f"Got {header.dtype} of shape {header.shape}."
        )
    if not prod(header.shape):
        raise DataError(f"{path} holds no images: its header says {header.shape}.")
    return header


def _header(path: Path) -> _Header:
    with _opened(path) as (stream, num_bytes_on_disk, is_gzip):
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not magic[3]:
            raise DataError(
                f"{path} is no IDX file: it must begin with 00 00 08 03 (images) or 00 00 08 01 "
                f"(labels). Got {magic.hex(' ') or 'an empty file'}."
            )
        num_dimensions = magic[3]
        sizes = stream.read(4 * num_dimensions)
        if len(sizes) < 4 * num_dimensions:
            raise DataError(f"{path} ends within its header. Fetch it again.")
    shape = tuple(np.frombuffer(sizes, dtype=">u4").tolist())
    header = _Header(dtype=np.dtype(_TYPES[magic[2]]), shape=shape)
    room = num_bytes_on_disk * (_LARGEST_GZIP_RATIO if is_gzip else 1)
    if header.num_bytes > room:
        raise DataError(_truncated_sentence(path, header))
    return header


def _read_into(path: Path, out: npt.NDArray[Any]) -> None:
    """Fill `out` (C order) with the content after the header, without a second copy."""
    header = _header(path)
    with _opened(path) as (stream, _, _):
        stream.read(4 + 4 * len(header.shape))
        target = out.reshape(-1).view(np.uint8)
        done = 0
        while done < len(target):
            block = stream.read(min(_BLOCK, len(target) - done))
            if not block:
                raise DataError(_truncated_sentence(path, header))
            target[done : done + len(block)] = np.frombuffer(block, dtype=np.uint8)
            done += len(block)
        if stream.read(1):
            raise DataError(
                f"{path} holds more than its header announces, {header.shape}. Fetch it again."
            )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, bool]]:
    """The decompressed stream, the bytes on disk, and whether they are gzip, whatever the name."""
    try:
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else raw
            yield stream, path.stat().st_size, is_gzip
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged or truncated gzip ({str(error).rstrip('.')}). Fetch it again."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _truncated_sentence(path: Path, header: _Header) -> str:
    return (
        f"{path} is truncated: its header announces {' x '.join(map(str, header.shape))} values, "
        "but the file ends before. Fetch it again."
    )
