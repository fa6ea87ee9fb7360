"""Label files: reading, joining, and everything that can be wrong with them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.data.label_file import LabelRow, join_labels, read_label_file
from fewlabels.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for index, name in enumerate(["a.png", "b.png", "c.png", "sub/d.png"]):
        Image.new("L", (4, 4), index).save(folder / name)
    return folder


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _names(root: Path, labels: Path) -> list[str | None]:
    data = load_images(root, labels=labels)
    assert data.ids.tolist() == ["a.png", "b.png", "c.png", "sub/d.png"]
    return [data.class_names[label] if label >= 0 else None for label in data.labels.tolist()]


def test_joined_by_relative_path(root: Path, tmp_path: Path) -> None:
    labels = _csv(tmp_path, "image,label\nsub/d.png,dog\na.png,cat\nb.png,\n")
    assert _names(root, labels) == ["cat", None, None, "dog"]


def test_spellings(root: Path, tmp_path: Path) -> None:
    text = '\ufeffwho, Label ,IMAGE\r\nx,cat,./a.png\r\n\r\ny," dog ",sub\\d.png\r\n'
    assert _names(root, _csv(tmp_path, text)) == ["cat", None, None, "dog"]


def test_numbers_sort_by_value(root: Path, tmp_path: Path) -> None:
    labels = _csv(tmp_path, "image,label\na.png,10\nb.png,9\n")
    assert load_images(root, labels=labels).class_names == ("9", "10")


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["10", None, "", "9"]),
        pa.array([10, None, None, 9]),
        pa.array([10.0, float("nan"), None, 9.0]),
        pa.array(["10", None, "", "9"]).dictionary_encode(),
    ],
)
def test_parquet_label_file(root: Path, tmp_path: Path, values: pa.Array) -> None:
    images = pa.array(["a.png", "b.png", "c.png", "sub/d.png"])
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"label": values, "image": images, "more": [0] * 4}), path)
    assert _names(root, path) == ["10", None, None, "9"]


def test_label_file_inside_the_folder_is_not_counted_as_ignored(root: Path) -> None:
    (root / "labels.csv").write_text("image,label\na.png,1\nb.png,2\n")
    data = load_images(root, labels=root / "labels.csv")
    assert data.problems == ()
    assert data.facts["ignored"] == {}


def test_sub_folders_are_no_classes_but_may_be_parts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        Image.new("L", (4, 4), 1).save(folder / part / "a.png")
    labels = _csv(tmp_path, "image,label\ntrain/a.png,x\ntest/a.png,y\n")
    data = load_images(folder, labels=labels)
    assert data.class_names == ("x", "y")
    assert data.parts.tolist() == [Part.TEST, Part.POOL]


def test_rows_that_agree_and_rows_without_image_are_problems(root: Path, tmp_path: Path) -> None:
    text = "image,label\na.png,1\nb.png,2\na.png,1\nz.png,2\n"
    problems = load_images(root, labels=_csv(tmp_path, text)).problems
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("duplicate_row", "labels.csv row 4"),
        ("missing_image", "labels.csv row 5"),
    ]
    assert "z.png" in problems[1].message


def test_row_of_a_broken_image_is_no_missing_image(root: Path, tmp_path: Path) -> None:
    (root / "e.png").write_bytes(b"")
    data = load_images(root, labels=_csv(tmp_path, "image,label\na.png,1\nb.png,2\ne.png,3\n"))
    assert [problem.kind for problem in data.problems] == ["broken"]
    assert len(data) == 4


def test_minus_one_is_a_class_with_a_warning(root: Path, tmp_path: Path) -> None:
    data = load_images(root, labels=_csv(tmp_path, "image,label\na.png,-1\nb.png,1\n"))
    assert data.class_names == ("-1", "1")
    assert [problem.kind for problem in data.problems] == ["label"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,label\na.png,1\na.png,2\n", "'a.png' has two labels: '1' in labels.csv row 2, '2'"),
        ("image,label\na.png,1\n./a.png,\n", "'a.png' has two labels: '1' .* no label in"),
        ("a.png,1\nb.png,2\n", "must begin with a header .* Got: a.png,1"),
        ("image;label\na.png;1\n", "separated by commas. Got: image;label"),
        ("image,label,label\na.png,1,2\n", "image and label once each"),
        ("", "must begin with a header .* Got: nothing"),
        ("image,label\n", "has no rows"),
        ("image,label\na.png,1,2\n", "row 2 .* has 3 cells, the header 2"),
        ("image,label\n,1\n", "row 2 .* names no image"),
        (
            "image,label\nx.png,1\n",
            "No row .* its first row names 'x.png', the first image is 'a.png'",
        ),
        ('image,label\n"a.png,1\n', "no valid CSV"),
    ],
)
def test_wrong_csv(root: Path, tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=f"(?i){sentence}"):
        load_images(root, labels=_csv(tmp_path, text))


def test_wrong_label_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no label file"):
        load_images(root, labels=tmp_path / "gone.csv")
    for name, content, sentence in [
        ("a.xlsx", b"x", "must end in .csv or .parquet. Got .xlsx"),
        ("a.csv", b"image,label\n\xff\xfe,1\n", "not UTF-8"),
        ("a.parquet", b"no parquet", "no valid Parquet"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            load_images(root, labels=tmp_path / name)
    pq.write_table(pa.table({"file": ["a.png"], "label": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="Got: file,label"):
        load_images(root, labels=tmp_path / "b.parquet")


def test_label_file_for_something_else_than_a_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="joins a folder of images"):
        load_images(tmp_path / "a.npz", labels=_csv(tmp_path, "image,label\na.png,1\n"))


def test_cached_images_meet_new_labels(root: Path, tmp_path: Path) -> None:
    assert _names(root, _csv(tmp_path, "image,label\na.png,x\n")) == ["x", None, None, None]
    assert _names(root, _csv(tmp_path, "image,label\nb.png,y\n")) == [None, "y", None, None]


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"]), min_size=1)
ROWS = st.lists(st.tuples(st.sampled_from([f"{n}.png" for n in range(8)]), st.sampled_from("xyz-")))


@given(images=st.sets(st.integers(0, 7), min_size=1), pairs=ROWS)
def test_join_equals_a_plain_look_up(images: set[int], pairs: list[tuple[str, str]]) -> None:
    names = sorted(f"{number}.png" for number in images)
    label_of = {"-": ""}
    rows = [
        LabelRow(where=f"row {index}", image=image, label=label_of.get(text, text))
        for index, (image, text) in enumerate(pairs)
    ]
    said: dict[str, set[str]] = {}
    for row in rows:
        said.setdefault(row.image, set()).add(row.label)
    path = Path("labels.csv")
    if any(len(labels) > 1 for labels in said.values()) or not said.keys() & set(names):
        with pytest.raises(DataError):
            join_labels(names, rows, path)
        return
    texts, problems = join_labels(names, rows, path)
    assert texts == [next(iter(said.get(name, {""}))) or None for name in names]
    kinds = [problem.kind for problem in problems]
    assert kinds.count("missing_image") == len(said.keys() - set(names))
    assert kinds.count("duplicate_row") == len(rows) - len(said)


@given(pairs=st.dictionaries(NAMES, NAMES, min_size=1))
def test_any_text_survives_the_csv(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows((f"x/{name}.png", label) for name, label in pairs.items())
    rows = read_label_file(path)
    assert [row.label for row in rows] == list(pairs.values())
