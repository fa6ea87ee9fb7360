"""Files are whole or not there at all."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabels.errors import StorageError
from fewlabels.files import make_folder, write_atomically, write_json, write_text


def test_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_not_a_number_never_reaches_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(StorageError, match="Cannot write"):
        make_folder(tmp_path / "a" / "b")


def test_forbidden_place() -> None:
    """Where not even the administrator may write."""
    if not Path("/sys/kernel").is_dir():
        pytest.skip("this system has no /sys")
    with pytest.raises(StorageError, match="Cannot write"):
        make_folder(Path("/sys/kernel/fewlabels"))


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """/dev/full is a disk that is always full."""
    from fewlabels.files import storage_errors

    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(StorageError, match="the disk is full"),
        storage_errors(path),
        open(path, "w") as file,
    ):
        file.write("x" * 100_000)


def test_file_size_limit_leaves_the_old_file(tmp_path: Path) -> None:
    """A real process that may not write more than 1 kB."""
    write_text(tmp_path / "a.txt", "old")
    code = (
        "import sys; from pathlib import Path; from fewlabels.files import write_text;"
        f"write_text(Path({str(tmp_path / 'a.txt')!r}), 'x' * 100_000)"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))

    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
