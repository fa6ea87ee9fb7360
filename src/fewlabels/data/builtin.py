"""Image sets that come by name: scikit-learn's digits, and MNIST."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import IO

import numpy as np

from fewlabels.data import idx
from fewlabels.data.arrays import from_arrays
from fewlabels.data.cache import cache_folder
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.options import ReadOptions
from fewlabels.errors import DataError, DownloadError
from fewlabels.files import make_folder, write_atomically
from fewlabels.progress import progress_bar

DATA_VARIABLE = "FEWLABELS_DATA"
"""The environment variable that names a folder with mnist/ in it."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Where MNIST is fetched from, in this order."""

MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 sums of MNIST's files, of their decompressed bytes."""

_TIMEOUT_SECONDS = 20
_LARGEST_FILE = 20_000_000  # twice the largest of the four; a mirror must not fill the disk
_LARGEST_UNPACKED = 100_000_000
_BLOCK = 1 << 16


NUM_TEST_DIGITS = 500
"""The last images of scikit-learn's digits, by other writers than the first, are our test part."""


def digits() -> ImageSet:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 grey; they need no network.

    The last 500 are the test part, so that a demonstration with few labels still ends in a number
    worth reading.

    Source: Optical Recognition of Handwritten Digits (Alpaydin, Kaynak, 1998), test part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # values are 0…16
    data = from_arrays(
        images,
        bunch.target,
        ids=[f"digits/{index:04d}" for index in range(len(images))],
        source="scikit-learn's digits",
    )
    parts = np.full(len(images), Part.POOL, dtype=np.int8)
    parts[-NUM_TEST_DIGITS:] = Part.TEST
    return replace(data, parts=parts)


def mnist(mirrors: Sequence[str] = MNIST_MIRRORS) -> ImageSet:
    """MNIST: from $FEWLABELS_DATA/mnist, else from the cache, else downloaded; sums are checked.

    Args:
        mirrors: URLs of folders with the four files.

    Raises:
        DataError: $FEWLABELS_DATA is set and does not hold MNIST.
        DownloadError: no mirror can be reached, or sends something else.
    """
    own = os.environ.get(DATA_VARIABLE)
    folder = Path(own).expanduser() / "mnist" if own else cache_folder() / "mnist"
    if own:
        _check_own(folder)
    else:
        _download_missing(folder, mirrors)
    return idx.read(folder, ReadOptions())


def _check_own(folder: Path) -> None:
    for name, md5 in MNIST_MD5.items():
        path = folder / name
        plain = path.with_suffix("")
        if _md5(plain if plain.exists() else path) != md5:
            raise DataError(
                f"{DATA_VARIABLE} is set, but {path} is missing or not the file of MNIST (MD5 "
                f"{md5} decompressed). Correct the folder, or unset {DATA_VARIABLE} to download it."
            )


def _download_missing(folder: Path, mirrors: Sequence[str]) -> None:
    missing = [name for name, md5 in MNIST_MD5.items() if _md5(folder / name) != md5]
    if not missing:
        return
    make_folder(folder)
    with progress_bar("Downloading MNIST", len(missing)) as progress:
        for name in missing:
            _download(folder / name, missing, mirrors)
            progress.advance()


def _download(path: Path, missing: Sequence[str], mirrors: Sequence[str]) -> None:
    reasons = []
    for mirror in mirrors:
        try:
            content = _fetch(mirror + path.name)
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
            continue
        if _md5_of_gzip(content) == MNIST_MD5[path.name]:
            _store(path, content)
            return
        reasons.append(f"{mirror}: it sent something else (MD5 sum differs)")
    urls = "\n".join(f"  {mirror}{name}" for name in missing for mirror in mirrors)
    raise DownloadError(
        f"MNIST cannot be downloaded ({'; '.join(reasons)}). It would have fetched, each from the "
        f"first place that answers:\n{urls}\nFetch the four .gz files yourself, put them in a "
        f"folder mnist/, and set {DATA_VARIABLE} to the folder that holds it."
    )


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        content: bytes = response.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError("it sent more than the file can have")
    return content


def _store(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)


def _md5(path: Path) -> str:
    """The MD5 sum of a file's decompressed bytes; "" where there is no such file."""
    try:
        with open(path, "rb") as file:
            return _md5_of_stream(gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file)
    except (OSError, EOFError, zlib.error):
        return ""


def _md5_of_gzip(content: bytes) -> str:
    try:
        return _md5_of_stream(gzip.GzipFile(fileobj=io.BytesIO(content)))
    except (OSError, EOFError, zlib.error):
        return ""


def _md5_of_stream(stream: IO[bytes] | gzip.GzipFile) -> str:
    # Block by block: what a stranger sends may be small and unpack to anything.
    digest, num_bytes = hashlib.md5(usedforsecurity=False), 0
    while (block := stream.read(_BLOCK)) and num_bytes < _LARGEST_UNPACKED:
        digest.update(block)
        num_bytes += len(block)
    return digest.hexdigest()
