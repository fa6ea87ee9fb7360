"""IDX files: plain and gzipped, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.errors import DataError


def _idx(array: npt.NDArray[np.generic], code: int = 8) -> bytes:
    # The format of the MNIST page: two zero bytes, type, number of dimensions, sizes, data.
    return (
        bytes([0, 0, code, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.tobytes())
    )


def _images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 4), dtype=np.uint8)


def _labels(count: int) -> npt.NDArray[np.uint8]:
    return (np.arange(count) % 3).astype(np.uint8)


def _write(folder: Path, *, zipped: bool = False, dot: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, array, code in [
        ("train-images-idx3-ubyte", _images(7), 8),
        ("train-labels-idx1-ubyte", _labels(7), 8),
        ("t10k-images-idx3-ubyte", _images(3, 1), 8),
        ("t10k-labels-idx1-ubyte", _labels(3), 8),
    ]:
        name = stem.replace("-idx", ".idx") if dot else stem
        content = _idx(array, code)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_mnist_style_folder(tmp_path: Path, zipped: bool, dot: bool) -> None:
    data = load_images(_write(tmp_path / "data", zipped=zipped, dot=dot))
    assert np.array_equal(data.images[:, 0], np.concatenate([_images(7), _images(3, 1)]))
    assert data.images.dtype == np.uint8
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2]
    assert data.class_names == ("0", "1", "2")
    assert data.ids.tolist()[5:8] == ["train/00005", "train/00006", "test/00000"]
    assert data.parts.tolist() == [Part.POOL] * 7 + [Part.TEST] * 3
    assert data.problems == ()


def test_gzip_by_content_whatever_the_name(tmp_path: Path) -> None:
    folder = _write(tmp_path / "data")
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(load_images(folder)) == 10


def test_prefixes_gaps_and_other_types(tmp_path: Path) -> None:
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(_idx(_images(4)))
    labels = np.array([1, -1, 300, 1], dtype=">i4")
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(_idx(labels, 0x0C))
    data = load_images(tmp_path)
    assert data.class_names == ("1", "300")
    assert data.labels.tolist() == [0, -1, 1, 0]


def test_colour_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    (tmp_path / "images-idx4-ubyte").write_bytes(_idx(images))
    data = load_images(tmp_path)
    assert np.array_equal(data.images, images.transpose(0, 3, 1, 2))
    assert (data.labels == -1).all()


def test_only_a_test_part_is_the_pool(tmp_path: Path) -> None:
    folder = _write(tmp_path / "data")
    for name in ("images-idx3", "labels-idx1"):
        (folder / f"train-{name}-ubyte").unlink()
    assert (load_images(folder).parts == Part.POOL).all()


def test_images_without_label_file_have_no_labels(tmp_path: Path) -> None:
    folder = _write(tmp_path / "data")
    (folder / "train-labels-idx1-ubyte").unlink()
    assert load_images(folder).labels.tolist() == [-1] * 7 + [0, 1, 2]


def test_a_single_file_and_another_size(tmp_path: Path) -> None:
    (tmp_path / "anything.gz").write_bytes(gzip.compress(_idx(_images(4))))
    data = load_images(tmp_path / "anything.gz", image_size="10x8")
    assert data.images.shape == (4, 1, 10, 8)
    assert data.facts["sizes"] == {"5x4": 4}
    assert data.facts["resized"] == {"images": 4}
    assert np.abs(data.images.mean() - _images(4).mean()) < 8


def _damage(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train-images-idx3-ubyte", _idx(_images(7))[:-9], "is truncated: .* 7 x 5 x 4"),
        ("train-images-idx3-ubyte", _idx(_images(7)) + b"x", "holds more than its header"),
        ("train-images-idx3-ubyte", b"hello, world", "is no IDX file: .* Got 68 65 6c 6c"),
        ("train-images-idx3-ubyte", b"", "Got an empty file"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0", "ends within its header"),
        ("train-images-idx3-ubyte", _idx(_labels(7)), r"must hold uint8 images .* \(7,\)"),
        ("train-images-idx3-ubyte", _idx(_images(7), 0x0C), "is truncated"),
        ("train-images-idx3-ubyte", _idx(_images(0)), "holds no images"),
        ("train-images-idx3-ubyte", _idx(_images(9)), "has 9 images, .* has 7 labels"),
        (
            "train-images-idx3-ubyte",
            b"\0\0\x08\x03" + b"\xff" * 12 + b"x" * 100,
            "is truncated: .* 4294967295",
        ),
        (
            "train-images-idx3-ubyte",
            gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + b"x" * 100),
            "is truncated: .* 4294967295",
        ),
        (
            "train-images-idx3-ubyte",
            gzip.compress(_idx(_images(7)))[:-30],
            "damaged or truncated gzip",
        ),
        ("train-images-idx3-ubyte", gzip.compress(_idx(_images(7))[:-30]), "is truncated"),
        ("train-images-idx3-ubyte", b"\x1f\x8b nonsense", "damaged or truncated gzip"),
        ("train-labels-idx1-ubyte", _idx(_images(7)), "must hold one whole number per image"),
        ("train-labels-idx1-ubyte", _idx(_labels(8)), "has 7 images, .* has 8 labels"),
        ("train-labels-idx1-ubyte", _idx(_labels(7))[:-1], "is truncated"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01", "ends within its header"),
        ("t10k-images-idx3-ubyte", _idx(np.zeros((3, 9, 9), np.uint8)), "of different sizes"),
        ("test-images-idx3-ubyte", _idx(_images(3)), "holds two test sets of IDX images"),
        ("extra-labels-idx1-ubyte", _idx(_labels(3)), "Put extra-images-idx3-ubyte beside it"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    folder = _damage(_write(tmp_path / "data"), name, content)
    with pytest.raises(DataError, match=sentence) as caught:
        load_images(folder)
    assert name in str(caught.value) or "data" in str(caught.value)


@pytest.mark.parametrize("flipped", range(0, 60, 3))
def test_a_flipped_byte_never_raises_anything_else(tmp_path: Path, flipped: int) -> None:
    folder = _write(tmp_path / "data", zipped=True)
    path = folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[flipped] ^= 0xFF
    path.write_bytes(content)
    with suppress(DataError):
        load_images(folder)
