"""The image files below a folder, in order, with what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewlabels.data.decode import EXTENSIONS
from fewlabels.data.image_set import Problem
from fewlabels.errors import DataError

_TABLES = (".csv", ".parquet", ".tsv")
_HIDDEN = "hidden"


@dataclass(frozen=True, kw_only=True)
class FileList:
    """Image files below a folder.

    Attributes:
        names: relative paths with "/", sorted.
        stamp: name, size in bytes and time of change in nanoseconds of each.
        ignored: how many files of each extension were left out; "hidden" for hidden ones.
        problems: the same in words, sub-folders without images, and names that cannot be used.
    """

    names: tuple[str, ...]
    stamp: tuple[tuple[str, int, int], ...]
    ignored: dict[str, int]
    problems: tuple[Problem, ...]


def list_image_files(root: Path, label_file: Path | None = None) -> FileList:
    """List the image files below a folder, by their extension; links are followed.

    Args:
        root: an existing folder.
        label_file: not counted as ignored where it lies inside.

    Raises:
        DataError: the folder cannot be listed.
    """
    entries: list[os.DirEntry[str]] = []
    problems: list[Problem] = []
    ignored: Counter[str] = Counter()
    stamps = []
    own = label_file.resolve() if label_file is not None else None
    for name, entry in sorted(_walk(root, problems, ignored), key=lambda found: found[0]):
        suffix = os.path.splitext(name)[1].lower()
        if own is not None and Path(entry.path).resolve() == own:
            continue
        if suffix not in EXTENSIONS:
            ignored[suffix or "no extension"] += 1
        elif not _is_text(name):
            message = "its name is not valid UTF-8; rename it"
            where = name.encode("utf-8", "backslashreplace").decode()
            problems.append(Problem(kind="broken", where=where, message=message))
        else:
            entries.append(entry)
            stamps.append((name, *_size_and_time(entry)))
    problems += _ignored_problems(ignored, root)
    return FileList(
        names=tuple(stamp[0] for stamp in stamps),
        stamp=tuple(stamps),
        ignored=dict(ignored.most_common()),
        problems=tuple(problems),
    )


def _walk(
    root: Path, problems: list[Problem], ignored: Counter[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every file that is not hidden, with its relative path."""
    pending: list[tuple[str, str, tuple[str, ...]]] = [("", str(root), ())]
    while pending:
        prefix, folder, above = pending.pop()
        real = os.path.realpath(folder)
        if real in above:  # a link to one of its own parents
            continue
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            if not prefix:
                reason = f"The folder {root} cannot be listed: {error.strerror}."
                raise DataError(f"{reason} Check its permissions.") from None
            message = f"the folder cannot be listed: {error.strerror}"
            problems.append(Problem(kind="broken", where=prefix, message=message))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                ignored[_HIDDEN] += 1
            elif entry.is_dir():
                pending.append((f"{prefix}{entry.name}/", entry.path, (*above, real)))
            else:
                yield prefix + entry.name, entry


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # a link that leads nowhere; decoding will report it
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ignored_problems(ignored: Counter[str], root: Path) -> list[Problem]:
    problems = []
    for suffix, count in ignored.most_common():
        files = "file is" if count == 1 else "files are"
        if suffix == _HIDDEN:
            continue
        message = f"{count} {files} left out, being no images by their names"
        if suffix in _TABLES:
            message += "; name a label file with --labels"
        problems.append(Problem(kind="ignored", where=f"{root}: {suffix}", message=message))
    return problems
