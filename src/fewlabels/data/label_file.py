"""A folder of images with a label file: CSV or Parquet, columns `image` and `label`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fewlabels.data.file_list import list_image_files
from fewlabels.data.folder import decode_files, roles
from fewlabels.data.image_set import ImageSet, Problem
from fewlabels.data.labels import encode_texts
from fewlabels.data.options import ReadOptions
from fewlabels.errors import DataError

COLUMNS = ("image", "label")
"""The columns that a label file must have; others are ignored."""


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One row of a label file.

    Attributes:
        where: "labels.csv row 3", the header being row 1 of a CSV file.
        image: relative path with "/".
        label: class name; "" for none.
    """

    where: str
    image: str
    label: str


def read(path: Path, options: ReadOptions) -> ImageSet:
    """Read a folder of images and join them with the label file.

    Args:
        path: the folder.
        options: `labels` names the label file.

    Raises:
        DataError: no images, a label file of another form, rows that disagree, or no row that names
            an image of the folder.
    """
    assert options.labels is not None
    rows = read_label_file(options.labels)
    files = list_image_files(path, label_file=options.labels)
    if not files.names:
        raise DataError(f"The folder {path} holds no images to join with {options.labels}.")
    texts, problems = join_labels(files.names, rows, options.labels)
    encoded_labels = encode_texts(texts, str(options.labels))
    image_set = decode_files(path, files, encoded_labels, roles(files.names)[1], options)
    odd = (*image_set.problems, *problems, *_minus_one_problem(texts, options.labels))
    return replace(image_set, problems=odd)


def read_label_file(path: Path) -> list[LabelRow]:
    """Read a label file, CSV (comma, UTF-8) or Parquet.

    Raises:
        DataError: it does not exist, is neither, lacks a column, or has no rows.
    """
    if not path.is_file():
        raise DataError(f"There is no label file {path}. Check the path given with --labels.")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(
            f"The label file {path} must end in .csv or .parquet. Got {suffix or 'no extension'}."
        )
    try:
        rows = list(_csv_rows(path) if suffix == ".csv" else _parquet_rows(path))
    except OSError as error:
        raise DataError(
            f"The label file {path} cannot be read: {error.strerror or error}."
        ) from None
    if not rows:
        raise DataError(
            f"The label file {path} has no rows. Write one row image,label for each labelled image."
        )
    return rows


def join_labels(
    names: Sequence[str], rows: Iterable[LabelRow], label_file: Path
) -> tuple[list[str | None], tuple[Problem, ...]]:
    """The label of each image, and what is odd about the rows.

    Rows that repeat an image with the same label, and rows without an image, become problems.

    Args:
        names: relative paths of the images, with "/".
        rows: of the label file.
        label_file: its path, for errors.

    Returns:
        For each name its label, None for none.

    Raises:
        DataError: two rows give one image different labels, or no row names an image.
    """
    known = set(names)
    found: dict[str, LabelRow] = {}
    problems = []
    first_stray: LabelRow | None = None
    for row in rows:
        earlier = found.get(row.image)
        if earlier is not None and earlier.label != row.label:
            raise DataError(_disagreement(earlier, row))
        if earlier is not None:
            message = f"{row.image!r} has the same label in {earlier.where}"
            problems.append(Problem(kind="duplicate_row", where=row.where, message=message))
            continue
        found[row.image] = row
        if row.image not in known:
            first_stray = first_stray or row
            message = f"there is no image {row.image!r}"
            problems.append(Problem(kind="missing_image", where=row.where, message=message))
    if known.isdisjoint(found):
        raise DataError(_no_match(names, first_stray, label_file))
    return [found[name].label or None if name in found else None for name in names], tuple(problems)


def _csv_rows(path: Path) -> Iterator[LabelRow]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            image_column, label_column, num_columns = _find_columns(next(reader, []), path)
            for cells in reader:
                if not cells:  # an empty line
                    continue
                where = f"{path.name} row {reader.line_num}"
                if len(cells) != num_columns:
                    raise DataError(
                        f"{where} of {path} has {len(cells)} cells, the header {num_columns}. "
                        "Quote names that hold a comma."
                    )
                yield _row(where, cells[image_column], cells[label_column], path)
    except UnicodeDecodeError:
        raise DataError(f"The label file {path} is not UTF-8 text. Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"The label file {path} is no valid CSV: {error}.") from None


def _parquet_rows(path: Path) -> Iterator[LabelRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            image_column, label_column, _ = _find_columns(names, path)
            columns = [names[image_column], names[label_column]]
            number = 0
            for batch in file.iter_batches(columns=columns):
                images, labels = (batch.column(name).to_pylist() for name in columns)
                for image, label in zip(images, labels, strict=True):
                    number += 1
                    yield _row(f"{path.name} row {number}", _as_text(image), _as_text(label), path)
    except pa.ArrowException as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"The label file {path} is no valid Parquet: {first_line}.") from None


def _find_columns(header: Sequence[str], path: Path) -> tuple[int, int, int]:
    names = [name.strip().lower() for name in header]
    if any(names.count(column) != 1 for column in COLUMNS):
        found = ",".join(header)[:200] or "nothing"
        raise DataError(
            f"The label file {path} must begin with a header that names the columns image and "
            f"label once each, separated by commas. Got: {found}."
        )
    return names.index("image"), names.index("label"), len(names)


def _row(where: str, image: str, label: str, path: Path) -> LabelRow:
    if not image.strip():
        raise DataError(f"{where} of {path} names no image. Fill in the image, or drop the row.")
    name = PurePosixPath(image.strip().replace("\\", "/")).as_posix()
    return LabelRow(where=where, image=name, label=label.strip())


def _as_text(value: Any) -> str:
    if value is None or value != value:  # NaN, the only value unequal to itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas turns whole numbers with gaps into floats
    return str(value)


def _disagreement(earlier: LabelRow, row: LabelRow) -> str:
    first, second = (repr(label) if label else "no label" for label in (earlier.label, row.label))
    return (
        f"{row.image!r} has two labels: {first} in {earlier.where}, {second} in {row.where}. "
        "Keep one of the rows."
    )


def _no_match(names: Sequence[str], stray: LabelRow | None, label_file: Path) -> str:
    named = f" Its first row names {stray.image!r}," if stray is not None else ""
    return (
        f"No row of {label_file} names an image of the folder.{named} the first image is "
        f"{names[0]!r}. Write paths relative to the folder."
    )


def _minus_one_problem(texts: Sequence[str | None], label_file: Path) -> tuple[Problem, ...]:
    if "-1" not in texts:
        return ()
    message = "the label -1 is read as a class of that name; leave the cell empty for no label"
    return (Problem(kind="label", where=str(label_file), message=message),)
