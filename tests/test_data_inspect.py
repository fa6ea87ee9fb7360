"""Inspection, duplicates, contact sheet, and whether a set can be trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewlabels.data.arrays import from_arrays
from fewlabels.data.checks import check_trainable
from fewlabels.data.duplicates import duplicate_groups
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.inspect import contact_sheet, inspect_images
from fewlabels.errors import DataError, StorageError


def _set(values: list[int], labels: list[str | None], parts: list[int] | None = None) -> ImageSet:
    images = np.array(values, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
    return from_arrays(images, np.array(labels, dtype=object), parts=parts, source="these")


@given(values=st.lists(st.integers(0, 5), max_size=30))
def test_duplicate_groups_name_the_first_twin(values: list[int]) -> None:
    images = np.array(values, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)
    assert duplicate_groups(images).tolist() == [values.index(value) for value in values]


def test_duplicate_groups_of_views_and_floats() -> None:
    images = np.random.default_rng(0).random((4, 3, 5, 5)).astype(np.float32)
    images[3] = images[1]
    assert duplicate_groups(images.transpose(0, 1, 3, 2)).tolist() == [0, 1, 2, 1]
    images[3, 2, 4, 4] += 1e-3
    assert duplicate_groups(images).tolist() == [0, 1, 2, 3]


def test_counts_by_class_and_part() -> None:
    data = _set([1, 2, 3, 4, 5], ["a", "a", None, "b", "a"], [0, 0, 0, 1, 2])
    found = inspect_images(data)
    assert found.splits == {"train": 3, "validation": 1, "test": 1}
    assert found.classes == {
        "a": {"train": 2, "validation": 0, "test": 1},
        "b": {"train": 0, "validation": 1, "test": 0},
    }
    assert found.unlabelled == {"train": 1, "validation": 0, "test": 0}
    assert (found.num_images, found.num_labelled, found.num_unlabelled) == (5, 4, 1)
    assert found.modes == {"L": 5}
    assert found.sizes == {"4x4": 5}
    assert found.num_duplicates == 0


def test_duplicates_within_and_across_the_border() -> None:
    data = _set(
        [7, 7, 8, 9, 9, 8, 7, 5, 5],
        ["a", "b", "a", None, "b", "a", "a", "a", "a"],
        [0] * 4 + [2] * 3 + [0] * 2,
    )
    found = inspect_images(data)
    assert found.duplicates == (("0", "1", "6"), ("2", "5"), ("3", "4"), ("7", "8"))
    assert found.num_duplicates == 5
    assert found.conflicting_duplicates == (("0", "1", "6"),)
    assert found.crossing_duplicates == (("0", "1", "6"), ("2", "5"))  # 3 has no label to leak


def test_own_splits() -> None:
    data = _set([1, 1, 2, 3], ["a", "a", "b", None])
    splits = {"train": np.array([0, 2]), "test": np.array([1]), "unlabelled": np.array([3])}
    found = inspect_images(data, splits)
    assert found.splits == {"train": 2, "test": 1, "unlabelled": 1}
    assert found.classes["a"] == {"train": 1, "test": 1, "unlabelled": 0}
    assert found.crossing_duplicates == (("0", "1"),)


def test_inspection_is_plain_json() -> None:
    found = inspect_images(_set([1, 1, 2], ["a", "b", None])).to_dict()
    assert json.loads(json.dumps(found))["num_duplicates"] == 1


def test_contact_sheet(tmp_path: Path) -> None:
    data = _set([250, 251, 100, 101, 30], ["ox", "ox", "cat" * 20, None, "ox"], [0, 0, 0, 0, 2])
    path = contact_sheet(data, tmp_path / "sheet.png", num_per_class=3)
    with Image.open(path) as image:
        assert image.format == "PNG"
        shown = set(np.asarray(image.convert("L")).ravel().tolist())
    assert {250, 251, 100, 101} <= shown
    with Image.open(path) as image:
        tiles = np.asarray(image)[:, 150:]
    assert not (tiles == 30).all(axis=2).any()  # the test image stays unseen
    assert [found.name for found in tmp_path.iterdir()] == ["sheet.png"]


def test_contact_sheet_of_many_classes_colours_and_floats(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((300, 3, 5, 7)).astype(np.float32)
    data = from_arrays(images, np.arange(300) % 150, class_names=[f"名 {n}" for n in range(150)])
    with Image.open(contact_sheet(data, tmp_path / "sheet.png")) as image:
        assert image.height < 100 * 60 * 2


def test_contact_sheet_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Cannot write"):
        contact_sheet(_set([1], ["a"]), tmp_path / "file" / "sheet.png")


def test_trainable() -> None:
    check_trainable(_set([1, 2, 3, 4, 5], ["a", "b", "a", "b", None]))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([None] * 4, "No image of these has a label"),
        (["a", "a", "a", None], "All labels of these are of one class, 'a'"),
        (["a", "a", "b", None], "needs at least 2 labelled images; these have one: 'b'"),
        (["a", "b", "c", None], "these have one: 'a', 'b', 'c'"),
    ],
)
def test_untrainable(labels: list[str | None], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        check_trainable(_set([1, 2, 3, 4], labels))


def test_test_labels_do_not_make_a_set_trainable() -> None:
    data = _set([1, 2, 3, 4], ["a", "a", "b", "b"], [Part.POOL, Part.POOL, Part.TEST, Part.TEST])
    with pytest.raises(DataError, match="of one class, 'a'"):
        check_trainable(data)
