"""Decoded images on disk, so that a second start decodes nothing.

A cache entry is a folder with `images.npy` and `index.json`, written elsewhere and moved here in
one step: it is there whole or not at all, also when two processes write it at once.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import PIL

from fewlabels.data.decode import PIXEL_LIMIT
from fewlabels.data.decode_all import DecodedImages, EncodedImages, MemoryStore, decode_all
from fewlabels.data.image_set import Problem
from fewlabels.data.resize import Size
from fewlabels.files import storage_errors, write_json
from fewlabels.progress import say

CACHE_VERSION = 1
"""Raised whenever decoding or the entries' form changes; older entries are then not read."""

_STALE_SECONDS = 24 * 3600
_COPY_IMAGES = 1024
_WRITE_BYTES = 1 << 20
_HEADER_BYTES = 128  # of a version 1.0 .npy file with four dimensions, whatever its counts


def cache_folder() -> Path:
    """Where caches live: $FEWLABELS_CACHE, else fewlabels/ in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("FEWLABELS_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "fewlabels"


def decode_cached(encoded: EncodedImages, size: Size | None, use_cache: bool) -> DecodedImages:
    """Decode images, or take them from the cache.

    Args:
        encoded: the images.
        size: see `decode_all`.
        use_cache: False decodes into memory and leaves the cache alone.

    Returns:
        The images; from the cache they are mapped from disk, private to this process.

    Raises:
        DataError: no image can be read.
    """
    if not use_cache:
        return decode_all(encoded, size, MemoryStore)
    entry = cache_folder() / "images" / _entry_name(encoded, size)
    found = _read_entry(entry)
    if found is not None:
        return found
    reason = _why_anew(entry)
    if reason:
        say(f"Decoding {encoded.source} anew: {reason}.")
    try:
        with storage_errors(entry.parent):
            return _write_entry(entry, encoded, size)
    except OSError as error:
        say(f"{error} (FEWLABELS_CACHE names it.) Decoded images are kept in memory this time.")
        return decode_all(encoded, size, MemoryStore)


class FileStore:
    """Appends images to a NumPy file."""

    def __init__(self, path: Path, size: Size) -> None:
        self._path = path
        self._size = size
        self._channels = 1
        self._count = 0
        self._file = _start_file(path)

    def append(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Add one image, uint8 (C, H, W) with 1 or 3 channels."""
        if pixels.shape[0] > self._channels:
            self._become_coloured()
        if pixels.shape[0] < self._channels:
            pixels = pixels.repeat(self._channels, axis=0)
        self._file.write(np.ascontiguousarray(pixels).data)
        self._count += 1

    def finish(self) -> npt.NDArray[np.uint8]:
        """All images, mapped from the file."""
        self._complete()
        return _map_images(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _complete(self) -> None:
        with self._file as file:
            file.seek(0)
            _write_header(file, (self._count, self._channels, *self._size))
            file.flush()
            os.fsync(file.fileno())

    def _become_coloured(self) -> None:
        grey_path = self._path.with_suffix(".grey")
        self._complete()
        self._path.rename(grey_path)
        self._channels = 3
        self._file = _start_file(self._path)
        if self._count:
            grey = _map_images(grey_path)
            for start in range(0, self._count, _COPY_IMAGES):
                self._file.write(grey[start : start + _COPY_IMAGES].repeat(3, axis=1).data)
        grey_path.unlink()


def _start_file(path: Path) -> BinaryIO:
    file = open(path, "wb", buffering=_WRITE_BYTES)  # noqa: SIM115 - the store closes it
    _write_header(file, (0, 1, 1, 1))  # its place; the true one comes last
    return file


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    assert file.tell() == _HEADER_BYTES


def _map_images(path: Path) -> npt.NDArray[np.uint8]:
    # Copy on write: whoever changes the array changes its own memory, never the cache.
    mapped: npt.NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
    return mapped.view(np.ndarray)


def _entry_name(encoded: EncodedImages, size: Size | None) -> str:
    """What is asked for, how it is made, and from what state of the source."""
    wanted = [size, encoded.source]
    return f"{_digest(wanted)}-{_digest(_maker())}-{_digest(list(encoded.stamp))}"


def _maker() -> list[object]:
    return [CACHE_VERSION, PIL.__version__, PIXEL_LIMIT]


def _why_anew(entry: Path) -> str:
    """Why images that were cached are decoded once more; empty where they never were."""
    if entry.exists():
        return "its cache is damaged"
    wanted, maker, _ = entry.name.split("-")
    others = [other.name for other in entry.parent.glob(f"{wanted}-*")]
    if not others:
        return ""
    if any(other.split("-")[1] == maker for other in others):
        return "its files have changed since they were cached"
    return "its cache was made by another version"


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()


def _read_entry(entry: Path) -> DecodedImages | None:
    try:
        index = json.loads((entry / "index.json").read_text(encoding="utf-8"))
        images = _map_images(entry / "images.npy")
        if list(images.shape) != index["shape"]:
            return None
        dropped = np.array(index["dropped"], dtype=np.int64)
        return DecodedImages(
            images=images,
            kept=np.delete(np.arange(index["num_names"], dtype=np.int64), dropped),
            problems=tuple(Problem(**problem) for problem in index["problems"]),
            facts=index["facts"],
        )
    except (OSError, ValueError, KeyError, TypeError):  # absent, damaged, or being removed
        return None


def _write_entry(entry: Path, encoded: EncodedImages, size: Size | None) -> DecodedImages:
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(entry.parent)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=entry.parent))
    try:
        decoded = decode_all(
            encoded, size, lambda _, target: FileStore(temporary / "images.npy", target)
        )
        missing = np.setdiff1d(np.arange(len(encoded.names)), decoded.kept)
        index = {
            "shape": list(decoded.images.shape),
            "num_names": len(encoded.names),
            "dropped": missing.tolist(),
            "problems": [dataclasses.asdict(problem) for problem in decoded.problems],
            "facts": decoded.facts,
        }
        write_json(temporary / "index.json", index)
        temporary.chmod(0o755)
        _publish(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in entry.parent.glob(f"{entry.name.partition('-')[0]}-*"):
        if older != entry:
            shutil.rmtree(older, ignore_errors=True)
    return _read_entry(entry) or decode_all(encoded, size, MemoryStore)


def _publish(temporary: Path, entry: Path) -> None:
    try:
        os.rename(temporary, entry)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if _read_entry(entry) is None:  # damaged; a good one is of another process, and equal
            shutil.rmtree(entry)
            os.rename(temporary, entry)


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for left in folder.glob(".writing-*"):
        try:
            is_stale = time.time() - left.stat().st_mtime > _STALE_SECONDS
        except OSError:
            continue
        if is_stale:
            shutil.rmtree(left, ignore_errors=True)
