"""Parquet files: forms of the image column, labels, parts, trouble."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fewlabels.data import load_images
from fewlabels.data.image_set import Part
from fewlabels.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, columns: dict[str, Any], names: dict[str, list[str]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names is not None:
        features: dict[str, Any] = {"image": {"_type": "Image"}}
        features |= {key: {"_type": "ClassLabel", "names": names[key]} for key in names}
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path)
    return path


def _structs(values: list[int], names: list[str | None] | None = None) -> list[dict[str, Any]]:
    names = names or [None] * len(values)
    return [{"bytes": _png(value), "path": name} for value, name in zip(values, names, strict=True)]


def test_hugging_face_struct_with_class_names(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "test.parquet",
        {"image": _structs([5, 6, 7], ["b/1.png", "a/1.png", "x.png"]), "label": [1, 0, -1]},
        {"label": ["ant", "bee", "cow"]},
    )
    data = load_images(path)
    assert data.images[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert data.class_names == ("ant", "bee", "cow")
    assert data.labels.tolist() == [1, 0, -1]
    assert data.ids.tolist() == ["b/1.png", "a/1.png", "x.png"]
    assert (data.parts == Part.POOL).all()


@pytest.mark.parametrize("names", [[None, None], ["same", "same"], ["one", None]])
def test_ids_are_positions_where_paths_are_not_distinct(
    tmp_path: Path, names: list[str | None]
) -> None:
    path = _write(tmp_path / "a.parquet", {"image": _structs([5, 6], names)})
    data = load_images(path)
    assert data.ids.tolist() == ["0", "1"]
    assert data.labels.tolist() == [-1, -1]


def test_bytes_under_any_name_and_text_labels(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.parquet", {"img": [_png(5), _png(6)], "label": ["b", None]})
    data = load_images(path)
    assert data.images[:, 0, 0, 0].tolist() == [5, 6]
    assert data.class_names == ("b",)
    assert data.labels.tolist() == [0, -1]


def test_paths_relative_to_the_file(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "data"
    for index in range(3):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        (folder / "pictures" / f"{index}.png").write_bytes(_png(index))
    names = [f"pictures/{index}.png" for index in (2, 0, 1)]
    path = _write(folder / "a.parquet", {"image": names, "label": [1, 0, 1]})
    data = load_images(path)
    assert data.images[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert data.ids.tolist() == names
    (folder / "pictures" / "2.png").write_bytes(_png(200) + b" ")
    assert load_images(path).images[0, 0, 0, 0] == 200  # the cache knows the linked files
    structs = [{"bytes": None, "path": name} for name in names]
    data = load_images(_write(folder / "b.parquet", {"image": structs, "label": [1, 0, 1]}))
    assert data.images[:, 0, 0, 0].tolist() == [200, 0, 1]


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.png", "x/../../a.png"])
def test_paths_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / "a.parquet", {"image": [name]})
    with pytest.raises(DataError, match="lies outside its folder"):
        load_images(path)


@pytest.mark.parametrize("sub", ["", "data"])
def test_folder_with_official_parts(tmp_path: Path, sub: str) -> None:
    folder = tmp_path / "set"
    for name, values in [
        ("train-00000-of-00002", [1, 2]),
        ("train-00001-of-00002", [3]),
        ("validation-00000-of-00001", [4]),
        ("test-00000-of-00001", [5]),
    ]:
        columns = {"image": _structs(values), "label": [value % 2 for value in values]}
        _write(folder / sub / f"{name}.parquet", columns, {"label": ["even", "odd"]})
    (folder / "README.md").write_text("x")
    data = load_images(folder)
    found = dict(zip(data.images[:, 0, 0, 0].tolist(), data.parts.tolist(), strict=True))
    assert found == {1: Part.POOL, 2: Part.POOL, 3: Part.POOL, 4: Part.VALIDATION, 5: Part.TEST}
    assert data.class_names == ("even", "odd")
    assert data.ids.tolist()[:1] == ["test-00000-of-00001/0"]


def test_broken_rows_are_problems(tmp_path: Path) -> None:
    images = [*_structs([1, 2]), {"bytes": b"text", "path": None}, None]
    path = _write(tmp_path / "a.parquet", {"image": images, "label": [0, 1, 1, 0]})
    for _ in range(2):
        data = load_images(path)
        assert data.labels.tolist() == [0, 1]
        assert [(problem.kind, problem.where) for problem in data.problems] == [
            ("broken", "2"),
            ("broken", "3"),
        ]


def test_second_start_reads_the_cache(tmp_path: Path, cache: Path) -> None:
    path = _write(tmp_path / "a.parquet", {"image": _structs([1, 2]), "label": [0, 1]})
    first = load_images(path)
    times = {found: found.stat().st_mtime_ns for found in cache.rglob("*")}
    assert np.array_equal(load_images(path).images, first.images)
    assert {found: found.stat().st_mtime_ns for found in cache.rglob("*")} == times


def test_single_class_feature_is_the_label(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"img": _structs([1, 2]), "fine_label": [0, 1], "coarse_label": [0, 0]}
    _write(path, columns, {"fine_label": ["x", "y"]})
    assert load_images(path).class_names == ("x", "y")
    _write(path, columns, {"fine_label": ["x", "y"], "coarse_label": ["z"]})
    with pytest.raises(DataError, match="several columns of labels: fine_label, coarse_label"):
        load_images(path)


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _write(path, {"x": [1], "y": [2]})
    with pytest.raises(DataError, match=r"must have a column `image` .* x, y"):
        load_images(path)
    _write(path, {"image": [1.5]})
    with pytest.raises(DataError, match=r"must hold the images' bytes or paths\. Got double"):
        load_images(path)
    _write(path, {"image": _structs([1, 2]), "label": [0, 2]}, {"label": ["x", "y"]})
    with pytest.raises(DataError, match="must lie in 0…1"):
        load_images(path)
    _write(path, {"image": pa.array([], pa.binary())})
    with pytest.raises(DataError, match="holds no images"):
        load_images(path)
    content = _write(path, {"image": _structs([1, 2]), "label": [0, 2]}).read_bytes()
    for cut in (0, 3, 50, len(content) - 5):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            load_images(path)


def test_files_that_disagree_about_the_classes(tmp_path: Path) -> None:
    columns = {"image": _structs([1, 2]), "label": [0, 1]}
    _write(tmp_path / "set" / "train.parquet", columns, {"label": ["x", "y"]})
    _write(tmp_path / "set" / "test.parquet", columns, {"label": ["y", "x"]})
    with pytest.raises(DataError, match="disagree about the names of the classes"):
        load_images(tmp_path / "set")
