"""Arrays, tensors and NumPy archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewlabels.data import load_images
from fewlabels.data.arrays import from_arrays
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.labels import encode_labels, sort_class_names
from fewlabels.errors import DataError

GREY = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
COLOUR = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR[:, :3], COLOUR[:, :3].transpose(0, 3, 1, 2)),  # ambiguous: channels last
        (torch.from_numpy(GREY), GREY[:, None]),
        (GREY.tolist(), GREY[:, None]),
    ],
)
def test_shapes(images: Any, expected: Any) -> None:
    data = from_arrays(images)
    assert data.images.dtype == np.uint8
    assert data.images.flags.c_contiguous
    assert np.array_equal(data.images, expected)


def test_types() -> None:
    unit = np.array([0, 0.5, 1]).reshape(1, 1, 3)
    for images in (
        unit,
        unit.astype(np.float32),
        torch.tensor(unit),
        torch.tensor(unit).bfloat16(),
    ):
        data = from_arrays(images)
        assert data.images.dtype == np.float32
        assert data.images.ravel().tolist() == [0, 0.5, 1]
    values = from_arrays((unit == 1).astype(bool)).images
    assert values.ravel().tolist() == [0, 0, 255]
    assert values.dtype == np.uint8
    assert from_arrays(np.array([[[0, 257 * 9, 65535]]], np.uint16)).images.ravel().tolist() == [
        0,
        9,
        255,
    ]
    assert from_arrays(np.array([[[0, 9, 255]]], np.int64)).images.dtype == np.uint8


def test_uint8_arrays_are_not_copied() -> None:
    assert np.shares_memory(from_arrays(GREY).images, GREY)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((2, 4)), r"must have shape \(N, H, W\), .* Got \(2, 4\)"),
        (np.zeros((2, 4, 4, 2)), r"C = 1 or 3. Got \(2, 4, 4, 2\)"),
        (np.zeros((0, 4, 4)), "holds no images"),
        (np.full((2, 4, 4), 16.0), "floats must lie in 0…1. Got 16…16"),
        (np.full((2, 4, 4), np.nan), "floats must lie in 0…1. Got nan"),
        (np.full((2, 4, 4), -1), "whole numbers must lie in 0…255. Got -1"),
        (np.full((2, 4, 4), 256), "Got 256…256"),
        (np.full((2, 4, 4), "a"), "must be numbers"),
        (np.zeros((2, 4, 4), dtype=complex), "must be numbers"),
    ],
)
def test_wrong_images(images: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        from_arrays(images)


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([3, -1, 1], [1, -1, 0], ("1", "3")),
        (["b", "", "a"], [1, -1, 0], ("a", "b")),
        (np.array([b"b", b"", b"a"]), [1, -1, 0], ("a", "b")),
        (np.array(["b", None, "a"], dtype=object), [1, -1, 0], ("a", "b")),
        (np.array([10, None, 9], dtype=object), [1, -1, 0], ("9", "10")),
        (np.array([10.0, np.nan, 9.0]), [1, -1, 0], ("9", "10")),
        (np.array(["10", "", "9"]), [1, -1, 0], ("9", "10")),
        (np.array([[10], [-1], [9]]), [1, -1, 0], ("9", "10")),
        (torch.tensor([10, -1, 9]), [1, -1, 0], ("9", "10")),
        (np.array([True, False, True]), [1, 0, 1], ("False", "True")),
        (np.array([255, 0, 0], dtype=np.uint8), [1, 0, 0], ("0", "255")),
        ([-1, -1, -1], [-1, -1, -1], ()),
        (None, [-1, -1, -1], ()),
    ],
)
def test_labels(values: Any, labels: list[int], names: tuple[str, ...]) -> None:
    data = from_arrays(np.zeros((3, 2, 2), np.uint8), values)
    assert data.labels.tolist() == labels
    assert data.labels.dtype == np.int64
    assert data.class_names == names
    assert data.ids.tolist() == ["0", "1", "2"]


def test_labels_of_named_classes() -> None:
    assert encode_labels([1, -1, 0], "x", ["cat", "dog", "ox"])[1] == ("cat", "dog", "ox")
    assert encode_labels(["dog", "", "cat"], "x", ["cat", "dog"])[0].tolist() == [1, -1, 0]
    for values in ([2, 0], [-2, 0]):
        with pytest.raises(DataError, match=r"must lie in 0…1, .* Got"):
            encode_labels(values, "x", ["cat", "dog"])
    with pytest.raises(DataError, match=r"'ox' of x is none of its classes\. Allowed: cat, dog"):
        encode_labels(["ox"], "x", ["cat", "dog"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0, 1], "has 3 images but 2 labels"),
        ([0, 1, -2], "must be 0 or more, or -1 for none. Got -2"),
        ([0.5, 1.0, 2.0], "whole numbers or text. Got 0.5"),
        (np.zeros((3, 2)), r"one number or text per image, .* Got shape \(3, 2\)"),
        (np.zeros(3, dtype="datetime64[s]"), "whole numbers or text"),
        ([np.inf, 1.0, 2.0], "Got inf"),
    ],
)
def test_wrong_labels(values: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        from_arrays(np.zeros((3, 2, 2), np.uint8), values)


def test_order_of_class_names() -> None:
    assert sort_class_names(["10", "9", "-1"]) == ("-1", "9", "10")
    assert sort_class_names(["10", "9", "a"]) == ("10", "9", "a")
    assert sort_class_names(["01", "1", "0"]) == ("0", "01", "1")


def _npz(tmp_path: Path, **arrays: Any) -> ImageSet:
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    return load_images(tmp_path / "a.npz")


def test_plain_archive(tmp_path: Path) -> None:
    data = _npz(tmp_path, images=COLOUR, labels=np.array(["b", "a"]))
    assert data.image_shape == (3, 5, 4)
    assert data.class_names == ("a", "b")
    assert data.ids.tolist() == ["00000", "00001"]
    assert _npz(tmp_path, images=GREY).labels.tolist() == [-1, -1]


def test_medmnist_archive(tmp_path: Path) -> None:
    arrays = {}
    for part, count in [("train", 5), ("val", 2), ("test", 3)]:
        arrays[f"{part}_images"] = np.full((count, 4, 4, 3), count, dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None]
    data = _npz(tmp_path, **arrays)
    assert data.images[:, 0, 0, 0].tolist() == [5] * 5 + [2] * 2 + [3] * 3
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2]
    assert data.parts.tolist() == [Part.POOL] * 5 + [Part.VALIDATION] * 2 + [Part.TEST] * 3
    assert data.ids.tolist()[4:6] == ["train/00004", "validation/00000"]


def test_large_archive_images_are_resized(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 192, 3), dtype=np.uint8)
    data = _npz(tmp_path, train_images=images, test_images=images, train_labels=[0, 1, 1])
    assert data.image_shape == (3, 96, 82)
    assert data.facts["sizes"] == {"224x192": 6}
    assert data.facts["resized"] == {"images": 6}
    floats = _npz(tmp_path, images=(images / 255).astype(np.float32))
    assert floats.images.dtype == np.float32
    assert np.abs(floats.images * 255 - data.images[:3]).max() < 1


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": GREY}, "must hold arrays named images and labels, .* Got: x"),
        ({"images": GREY, "labels": [0, 1, 2]}, "has 2 images but 3 labels"),
        ({"images": GREY, "labels": 3}, "has 2 images but 1 labels"),
        ({"images": np.array([None, {}], dtype=object)}, "cannot be read as a NumPy archive"),
        ({"images": GREY, "train_images": GREY}, "holds both images and train_images"),
        ({"train_images": GREY, "test_images": COLOUR}, "one type and number of channels"),
        ({"train_images": GREY, "test_images": GREY / 255}, "one type and number of channels"),
        ({"images": np.zeros((2, 4), np.uint8)}, "must have shape"),
        ({"images": GREY, "labels": np.zeros((2, 5))}, "one number or text per image"),
    ],
)
def test_wrong_archives(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        _npz(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 nonsense"])
def test_damaged_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
        load_images(tmp_path / "a.npz")


def test_truncated_archive_and_bare_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=GREY)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
        load_images(tmp_path / "a.npz")
    with open(tmp_path / "b.npz", "wb") as file:
        np.save(file, GREY)
    with pytest.raises(DataError, match="one bare array"):
        load_images(tmp_path / "b.npz")
