"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabels.errors import StorageError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another folder",
    errno.EFBIG: "a limit on the size of files was reached; raise it (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "writing there is not allowed; choose another folder or change its permissions",
    errno.EPERM: "writing there is not allowed; choose another folder or change its permissions",
    errno.ENOTDIR: "part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a file of that name is in the way; choose another folder",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.EISDIR: "there is a folder of that name; give the name of a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk reports an error; check it, or choose another folder",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors at `path` into a `StorageError` with a next step."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise StorageError(f"Cannot write {path}: {reason}.") from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; it may exist.

    Raises:
        StorageError: it cannot be created.
    """
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_folder_of(path: Path) -> None:
    """Refuse a file whose folder is missing, before anything takes time.

    Raises:
        StorageError: the folder does not exist.
    """
    if not path.resolve().parent.is_dir():
        raise StorageError(
            f"Cannot write {path}: the folder {path.parent} does not exist. Create it first."
        )


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Whatever goes wrong, `path` holds its old content or the new one, and no temporary file stays.

    Args:
        path: the file to write; its folder must exist.
        write: called with the temporary path.

    Raises:
        StorageError: the disk is full, read-only or forbidden.
    """
    with storage_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: _write_text(temporary, text))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically.

    Weights come here too, as bytes: the library that packs them hides a full disk behind an error
    of its own when it writes files itself.
    """
    return write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def write_json(path: Path, value: Any) -> Path:
    """Write JSON atomically, indented, with keys in the order given."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
