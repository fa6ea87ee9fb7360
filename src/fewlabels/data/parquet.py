"""Parquet files with an image column and an optional label column.

An image is a file's content, a path relative to the Parquet file, or Hugging Face's struct of
`bytes` and `path`. In a folder of files, names that begin with train, validation or test are
official parts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fewlabels.data.cache import decode_cached
from fewlabels.data.decode_all import EncodedImages
from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.data.labels import encode_labels
from fewlabels.data.options import ReadOptions
from fewlabels.data.parts import part_of_name, settle_parts
from fewlabels.errors import DataError

SUFFIX = ".parquet"
# Small, since a row can hold a photograph.
_ROWS_AT_ONCE = 256
_PATH_COLUMNS = ("image", "path", "file", "file_name", "filename")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """One Parquet file, before its images are read."""

    path: Path
    part: Part
    image_column: str
    label_column: str | None
    class_names: tuple[str, ...] | None
    ids: tuple[str, ...]
    linked: tuple[str, ...]  # relative paths of images outside the Parquet file


def read(path: Path, options: ReadOptions) -> ImageSet:
    """Read a Parquet file, or a folder of them.

    Args:
        path: the file or folder.
        options: `image_size` and `cache` are used.

    Raises:
        DataError: a file is damaged, has no image column, or no image can be read.
    """
    files = list_files(path) if path.is_dir() else [path]
    tables = [_describe(file, alone=len(files) == 1) for file in files]
    encoded = EncodedImages(
        source=str(path.resolve()),
        names=[name for table in tables for name in table.ids],
        contents=lambda: _contents(tables),
        stamp=[stamp for table in tables for stamp in _stamps(table)],
    )
    labels, class_names = _labels(tables, str(path))
    decoded = decode_cached(encoded, options.image_size, options.cache)
    counts = [len(table.ids) for table in tables]
    parts = np.repeat(np.array([table.part for table in tables], dtype=np.int8), counts)
    labels = labels[decoded.kept]
    settled, problems = settle_parts(parts[decoded.kept], labels, str(path))
    return ImageSet(
        images=decoded.images,
        labels=labels,
        class_names=class_names,
        ids=np.array(encoded.names, dtype=np.str_)[decoded.kept],
        parts=settled,
        source=str(path),
        problems=(*decoded.problems, *problems),
        facts=decoded.facts,
    )


def list_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its sub-folder data/ as on the Hugging Face hub."""
    for place in (folder, folder / "data"):
        found = sorted(place.glob(f"*{SUFFIX}"))
        if found:
            return found
    return []


def _describe(path: Path, alone: bool) -> _Table:
    with _open(path) as file:
        schema = file.schema_arrow
        image_column = _find_image_column(schema, path)
        features = _class_features(schema)
        label_column = _find_label_column(schema, features, path)
        names, linked = _names_and_links(file, image_column, path)
        class_names = features.get(label_column) if label_column is not None else None
    prefix = "" if alone else f"{path.stem}/"
    return _Table(
        path=path,
        part=Part.POOL if alone else part_of_name(path.stem) or Part.POOL,
        image_column=image_column,
        label_column=label_column,
        class_names=class_names,
        ids=tuple(prefix + name for name in names),
        linked=linked,
    )


def _find_image_column(schema: pa.Schema, path: Path) -> str:
    if "image" in schema.names:
        return "image"
    holders = [field.name for field in schema if _holds_bytes(field.type)]
    if len(holders) == 1:
        return str(holders[0])
    for name in _PATH_COLUMNS:
        if name in schema.names:
            return name
    raise DataError(
        f"{path} must have a column `image` with the images' bytes or paths. "
        f"Its columns are: {', '.join(schema.names)}."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _find_label_column(
    schema: pa.Schema, features: dict[str, tuple[str, ...]], path: Path
) -> str | None:
    if "label" in schema.names:
        return "label"
    candidates = [name for name in schema.names if name in features] or [
        name for name in ("labels", "class") if name in schema.names
    ]
    if len(candidates) > 1:
        raise DataError(
            f"{path} has several columns of labels: {', '.join(candidates)}. "
            "Rename the one to use to `label`."
        )
    return candidates[0] if candidates else None


def _class_features(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Class names of each label column, from Hugging Face's schema metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: tuple(str(value) for value in feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _names_and_links(
    file: pq.ParquetFile, column: str, path: Path
) -> tuple[list[str], tuple[str, ...]]:
    """A name for each row, its path where all are distinct, and the paths that have to be read."""
    kind = file.schema_arrow.field(column).type
    num_rows = file.metadata.num_rows
    numbered = [str(index) for index in range(num_rows)]
    if pa.types.is_struct(kind):
        if not any(kind.field(index).name == "path" for index in range(kind.num_fields)):
            return numbered, ()
        rows = file.read(columns=[f"{column}.path"]).column(0).to_pylist()
        paths = [row["path"] if row else None for row in rows]
        linked = [name for name in paths if name] if _lacks_bytes(file, column) else []
    elif _holds_bytes(kind):
        return numbered, ()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        paths = file.read(columns=[column]).column(0).to_pylist()
        linked = [name for name in paths if name]
    else:
        raise DataError(
            f"The column {column} of {path} must hold the images' bytes or paths. Got {kind}."
        )
    names = [str(name) for name in paths if name]
    is_distinct = len(names) == num_rows == len(set(names))
    return names if is_distinct else numbered, tuple(linked)


def _lacks_bytes(file: pq.ParquetFile, column: str) -> bool:
    """Whether an image of a struct column may have only a path, by the statistics of the file."""
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema == f"{column}.bytes":
                statistics = chunk.statistics
                if statistics is None or not statistics.has_null_count or statistics.null_count:
                    return True
    return False


def _stamps(table: _Table) -> Iterator[tuple[str, int, int]]:
    status = table.path.stat()
    yield f"{table.path.name}:{table.image_column}", status.st_size, status.st_mtime_ns
    for name in table.linked:
        try:
            status = os.stat(table.path.parent / name)
        except OSError:  # only in words so far; decoding reports what is missing
            continue
        yield name, status.st_size, status.st_mtime_ns


def _contents(tables: Sequence[_Table]) -> Iterator[bytes | Path]:
    for table in tables:
        with _open(table.path) as file:
            columns = [table.image_column]
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                for value in batch.column(0).to_pylist():
                    yield _content(value, table.path)


def _content(value: Any, path: Path) -> bytes | Path:
    name = value
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        name = value.get("path")
    if isinstance(name, bytes):
        return name
    if not name:
        return b""
    relative = PurePosixPath(name)
    # A stranger's table must not make us read other people's files.
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(
            f"{path} names the image {name!r}, which lies outside its folder. "
            "Write paths relative to the Parquet file."
        )
    return path.parent / relative


def _labels(tables: Sequence[_Table], source: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    values: list[Any] = []
    for table in tables:
        if table.label_column is None:
            values += [None] * len(table.ids)
            continue
        with _open(table.path) as file:
            values += file.read(columns=[table.label_column]).column(0).to_pylist()
    known = {table.class_names for table in tables if table.label_column is not None}
    if not known:
        return np.full(len(values), NO_LABEL, dtype=np.int64), ()
    if len(known) > 1:
        raise DataError(f"The Parquet files of {source} disagree about the names of the classes.")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return encode_labels(array, source, known.pop())


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["it is damaged"])[0].rstrip(".")
        raise DataError(f"{path} cannot be read as Parquet: {reason}. Write it again.") from None
