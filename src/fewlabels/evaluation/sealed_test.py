"""The test set that is held back: sealed by taking its labels away, opened on record.

`seal.json` says which test set a run sealed and every time it was opened; it holds no labels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.image_set import NO_LABEL, ImageSet
from fewlabels.data.splits import Split
from fewlabels.errors import DataError, RunError
from fewlabels.files import write_json

Opening = dict[str, Any]
"""When (ISO 8601, UTC), by which run, with what result; from several folders also which."""

_SALT = b"fewlabels sealed test set, version 1\n"


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedTest:
    """A test set by name only: whoever holds this cannot score on it.

    Attributes:
        ids: text (N,), of the test images.
        digest: hexadecimal SHA-256 of ids, pixels and labels; equal for the same test set in any
            order, on any machine.
    """

    ids: npt.NDArray[np.str_]
    digest: str

    @property
    def num_images(self) -> int:
        """Number of test images."""
        return len(self.ids)

    def record(self) -> dict[str, Any]:
        """What `seal.json` starts with."""
        return {"test_set": self.digest, "num_images": self.num_images, "openings": []}


def seal(data: ImageSet, split: Split) -> tuple[ImageSet, SealedTest]:
    """Take away the labels of the test images, and of their copies elsewhere.

    Args:
        data: with all labels.
        split: of `data`.

    Returns:
        The images without those labels, and the test set's name.
    """
    labels = data.labels.copy()
    labels[split.test] = NO_LABEL
    labels[split.excluded] = NO_LABEL  # a copy's label is the test image's label
    sealed = SealedTest(ids=data.ids[split.test], digest=_digest(data, split))
    return data.with_labels(labels), sealed


def _digest(data: ImageSet, split: Split) -> str:
    positions = split.test[np.argsort(data.ids[split.test])]
    digest = hashlib.sha256(_SALT)
    digest.update(f"{data.images.dtype} {data.images.shape[1:]} {len(positions)}\n".encode())
    for position in positions.tolist():
        # Names, not numbers: a class added elsewhere shifts the numbers.
        name = data.class_names[data.labels[position]] if data.labels[position] >= 0 else ""
        digest.update(json.dumps([str(data.ids[position]), name]).encode())
        digest.update(np.ascontiguousarray(data.images[position]).data)
    return digest.hexdigest()


def write_seal(seal_file: Path, sealed: SealedTest) -> None:
    """Write a run's `seal.json`; one that is there already keeps its openings.

    Raises:
        DataError: the file seals another test set.
        RunError: the file that is there cannot be used.
        StorageError: it cannot be written.
    """
    with _locked(seal_file.parent):
        if seal_file.exists():
            check_test_set(seal_file, sealed)
        else:
            write_json(seal_file, sealed.record())


def check_test_set(seal_file: Path, sealed: SealedTest) -> None:
    """Make sure that the data still hold the test set that the run sealed.

    Args:
        seal_file: the run's `seal.json`.
        sealed: of the data as they are now, with the run's saved split.

    Raises:
        DataError: an image, a label or an id of the test set has changed.
        RunError: the file cannot be used.
    """
    if _read(seal_file)["test_set"] != sealed.digest:
        raise DataError(
            f"The {sealed.num_images} test images or their labels are not those that {seal_file} "
            "sealed. Restore the data as they were, with the same image size, or start a new run."
        )


def record_opening(seal_file: Path, *, run: str, when: datetime, result: Mapping[str, Any]) -> int:
    """Write down that the test set was opened, before anybody sees the result.

    Safe against other processes that open the same seal at the same moment, where the operating
    system has file locks (all but Windows).

    Args:
        seal_file: the run's `seal.json`.
        run: name of the run that opened it.
        when: the moment; local time if it names no zone.
        result: what came out, fit for JSON.

    Returns:
        How often this run's seal has been opened now.

    Raises:
        RunError: the file cannot be used.
        StorageError: the opening cannot be written down.
    """
    moment = when.astimezone(UTC).isoformat(timespec="seconds")
    with _locked(seal_file.parent):
        record = _read(seal_file)
        record["openings"].append({"when": moment, "run": run, "result": dict(result)})
        write_json(seal_file, record)
    return len(record["openings"])


def count_openings(seal_file: Path, runs_folder: Path) -> list[Opening]:
    """All openings of a run's test set, by this run and by the runs beside it.

    Choosing the best of many runs by the test is just what sealing prevents, so openings are
    counted by test set. Runs whose seal cannot be read are passed over: they are of other versions.

    Args:
        seal_file: the run's `seal.json`.
        runs_folder: the folder that holds run folders.

    Returns:
        Openings, oldest first, each with the name of its run folder under "folder".

    Raises:
        RunError: `seal_file` itself cannot be used.
    """
    test_set = _read(seal_file)["test_set"]
    files = {file.resolve() for file in (seal_file, *runs_folder.glob("*/seal.json"))}
    openings: list[Opening] = []
    for file in sorted(files):
        try:
            record = _read(file)
        except RunError:
            continue
        if record["test_set"] == test_set:
            openings += [{**opening, "folder": file.parent.name} for opening in record["openings"]]
    return sorted(openings, key=lambda opening: str(opening.get("when", "")))


def warning_for(openings: Sequence[Opening]) -> str | None:
    """What to tell the user after the last of these openings; None after the first.

    Args:
        openings: of one test set, the present one included.
    """
    if len(openings) < 2:
        return None
    earlier = ", ".join(f"{one.get('run')} on {one.get('when')}" for one in openings[:-1][-3:])
    more = f", and {len(openings) - 4} before" if len(openings) > 4 else ""
    return (
        f"This test set has now been opened {len(openings)} times (earlier by {earlier}{more}). "
        "Results chosen among several openings are too good: judge the final choice on new images."
    )


def _read(seal_file: Path) -> dict[str, Any]:
    try:
        record = json.loads(seal_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"There is no seal {seal_file}. Name a run folder that `fewlabels fit` has made."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"The seal {seal_file} cannot be read: {error}.") from None
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("test_set"), str)
        or not isinstance(record.get("openings"), list)
        or not all(isinstance(opening, dict) for opening in record["openings"])
    ):
        raise RunError(
            f"The seal {seal_file} is not of this version, or was changed. Start a new run."
        )
    return record


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder, where the system and the file system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # reading the seal will say what is wrong
        yield
        return
    try:
        with suppress(OSError):  # some network file systems have no locks
            # The folder is locked, as the file itself is replaced by each write.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
