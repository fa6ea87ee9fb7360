"""Files are whole or not there at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fewlabels.errors import StorageError
from fewlabels.files import (
    make_folder,
    storage_errors,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)


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
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert "StorageError: Cannot write" in done.stderr
    assert "limit on the size of files" in done.stderr
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[Path]:
    """A real file system in memory."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system needs the administrator")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=100k") as disk:
        write_bytes(disk / "a", b"old")
        with pytest.raises(StorageError, match=r"Cannot write .*/a: the disk is full; free some"):
            write_bytes(disk / "a", bytes(1_000_000))
        assert (disk / "a").read_bytes() == b"old"
        assert [p.name for p in disk.iterdir()] == ["a"]


def test_read_only_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        file_system(tmp_path / "disk", "ro,size=100k") as disk,
        pytest.raises(StorageError, match="the file system is read-only; choose another"),
    ):
        write_text(disk / "a", "new")


def test_forbidden_folder_is_one_sentence(tmp_path: Path) -> None:
    """As a user without rights, since the administrator may write anywhere."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.geteuid() != 0:
        with pytest.raises(StorageError, match="writing there is not allowed"):
            write_text(folder / "a", "new")
        return
    for above in (folder, *folder.parents):
        if not os.stat(above).st_mode & 0o001:
            os.chmod(above, os.stat(above).st_mode | 0o001)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            write_text(folder / "a", "new")
        except StorageError as error:
            os._exit(7 if "writing there is not allowed" in str(error) else 1)
        os._exit(2)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, words in {
        tmp_path / "missing" / "a": "its folder does not exist; create it first",
        tmp_path / "folder": "there is a folder of that name",
        tmp_path / ("a" * 300): "the name is too long",
    }.items():
        with pytest.raises(StorageError, match=words):
            write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd") as caught, storage_errors(tmp_path):
        raise OSError(errno.EPIPE, "odd")
    assert not isinstance(caught.value, StorageError)


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a", b"a" * 300_000)
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            write_bytes(path, (b"b" if turn % 2 else b"a") * 300_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        content = path.read_bytes()
        assert len(content) == 300_000
        assert content in (b"a" * 300_000, b"b" * 300_000)
    writer.join()


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """A real process, killed while it fills the temporary file."""
    path = write_text(tmp_path / "a.txt", "old")
    code = (
        "import sys, time; from pathlib import Path; from fewlabels.files import write_atomically\n"
        "def write(temporary):\n"
        "    temporary.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
        f"write_atomically(Path({str(path)!r}), write)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()
    assert path.read_text() == "old"


def test_json_keeps_order_and_letters(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"b": "größer", "a": [1, None]})
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["b", "a"]
    assert "größer" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o644
