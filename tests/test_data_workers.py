"""Decoding in processes: the same images as in threads, whatever is killed or changed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data import decode_all as decoding
from fewlabels.data import load_images
from fewlabels.data.decode import (
    DecodedImage,
    _decode,
    _decode_plain_jpeg,
    _open,
    _read_file,
    decode_image,
    quiet_pillow,
)
from fewlabels.data.decode_workers import DecodeWorkers
from fewlabels.data.file_list import list_image_files
from fewlabels.data.image_set import Problem


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(seed: int, size: tuple[int, int] = (12, 10), grey: bool = False) -> Image.Image:
    shape = size if grey else (*size, 3)
    small = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(small)


def tree(root: Path, count: int) -> None:
    """Colour and grey JPEG files of two sizes, PNG files, and a broken file."""
    for index in range(count):
        folder = root / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        size = (20, 16) if index % 50 == 7 else (12, 10)
        suffix = ".png" if index % 10 == 3 else ".jpg"
        picture(index, size, grey=index % 4 == 1).save(folder / f"{index:05d}{suffix}")
    (root / "class1" / "broken.jpg").write_bytes(b"\xff\xd8 no image")


def test_processes_and_threads_give_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "data", 600)
    in_threads = load_images(tmp_path / "data", cache=False)
    monkeypatch.setattr(decoding, "_ENOUGH_FOR_PROCESSES", 10)
    in_processes = load_images(tmp_path / "data")
    for data in (in_processes, load_images(tmp_path / "data")):  # decoded, then from the cache
        assert np.array_equal(data.images, in_threads.images)
        assert data.ids.tolist() == in_threads.ids.tolist()
        assert data.problems == in_threads.problems
        assert data.facts == in_threads.facts
    assert [problem.where for problem in in_threads.problems] == ["class1/broken.jpg"]
    assert in_threads.facts["sizes"] == {"12x10": 588, "20x16": 12}


def test_a_wrong_guess_of_the_usual_size_is_noticed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SAMPLE", 8)
    (tmp_path / "data").mkdir()
    for index in range(32):  # every fourth, and so all of the sample, is of the rarer size
        size = (9, 9) if index % 4 == 0 else (6, 5)
        picture(index, size).save(tmp_path / "data" / f"{index:02d}.png")
    data = load_images(tmp_path / "data")
    assert data.image_shape == (3, 6, 5)
    assert data.facts["resized"] == {"images": 8}


PLAIN = {
    "colour": {"quality": 90},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": "4:4:4"},
    "restarts": {"restart_marker_blocks": 1},
    "comment": {"comment": b"made by hand"},
}


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("grey", [False, True])
def test_the_short_way_for_plain_jpegs_equals_the_long_one(
    tmp_path: Path, options: dict[str, object], grey: bool
) -> None:
    path = tmp_path / "a.jpg"
    picture(1, (21, 34), grey).save(path, **options)
    short = _decode_plain_jpeg(path.read_bytes(), (21, 34))
    assert short is not None
    with _open(path) as image:
        long = _decode(image, (21, 34))
    assert np.array_equal(short.pixels, long.pixels)
    assert (short.mode, short.size, short.peak) == (long.mode, long.size, long.peak)


def test_jpegs_that_are_not_plain_go_the_long_way(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    turned = Image.Exif()
    turned[0x0112] = 6
    for image, options in (
        (picture(1), {"exif": turned}),
        (picture(1).convert("CMYK"), {}),
        (picture(1), {"icc_profile": b"profile"}),
    ):
        image.save(path, **options)
        assert _decode_plain_jpeg(path.read_bytes(), None) is None
    picture(1).save(path)
    whole = path.read_bytes()
    assert _decode_plain_jpeg(whole, (5, 5)) is None  # has to be resized
    for cut in range(0, len(whole), 7):
        with quiet_pillow():
            outcome = decode_image(whole[:cut], "a")
        assert isinstance(outcome, Problem)


def test_killed_processes_are_replaced() -> None:
    jobs = [(str(seed), png(picture(seed))) for seed in range(40)]
    workers = DecodeWorkers(1)
    try:
        os.kill(workers._all[0]._process.pid, signal.SIGKILL)
        outcomes = workers.decode(jobs, (12, 10))
    finally:
        workers.close()
    for outcome, seed in zip(outcomes, range(40), strict=True):
        assert isinstance(outcome, DecodedImage)
        assert np.array_equal(outcome.pixels, np.asarray(picture(seed)).transpose(2, 0, 1))


def test_an_image_that_kills_its_process_is_a_problem() -> None:
    """A process that is killed again and again while it works on a large image."""
    large = png(Image.fromarray(np.zeros((7000, 7000, 3), np.uint8)))
    workers, over = DecodeWorkers(1), threading.Event()

    def kill() -> None:
        while not over.is_set():
            time.sleep(0.15)
            workers._all[0]._process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        (outcome,) = workers.decode([("large.png", large)], (8, 8))
    finally:
        over.set()
        killer.join()
        workers.close()
    assert isinstance(outcome, Problem)
    assert (outcome.where, outcome.message) == ("large.png", "makes the decoder crash")


def png(image: Image.Image) -> bytes:
    import io

    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


def test_a_program_killed_while_caching_leaves_nothing_that_is_read(
    tmp_path: Path, cache: Path
) -> None:
    tree(tmp_path / "data", 2400)
    program = f"from fewlabels.data import load_images; load_images({str(tmp_path / 'data')!r})"
    killed = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    deadline = time.monotonic() + 30
    while not list(cache.glob("images/.writing-*/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [entry.name[0] for entry in (cache / "images").iterdir()] == ["."]
    data = load_images(tmp_path / "data")
    assert len(data) == 2400
    assert np.array_equal(data.images, load_images(tmp_path / "data", cache=False).images)
    assert processes_of(killed.pid) == []


def processes_of(group: int) -> list[str]:
    """Processes that a killed program left behind."""
    deadline = time.monotonic() + 10
    while True:
        listing = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(group)], capture_output=True, text=True, check=False
        ).stdout.split()
        if not listing or time.monotonic() > deadline:
            return listing
        time.sleep(0.1)


def test_a_file_that_grows_while_it_is_read_comes_as_it_was_at_one_moment(tmp_path: Path) -> None:
    path, over = tmp_path / "a.bin", threading.Event()
    path.write_bytes(b"")

    def grow() -> None:
        with open(path, "ab", buffering=0) as file:
            while not over.is_set() and file.tell() < 200_000_000:
                file.write(bytes(range(256)) * 64)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(50):
            try:
                content, (size, _) = _read_file(path)
            except ValueError as error:
                assert "keeps changing" in str(error)  # noqa: PT017 - either is right
            else:
                assert len(content) == size
                assert content == (bytes(range(256)) * (size // 256))[:size]
    finally:
        over.set()
        writer.join()


@pytest.mark.parametrize("for_processes", [10, 10_000])
def test_a_file_that_changed_since_it_was_listed_is_reported(
    tmp_path: Path, for_processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_ENOUGH_FOR_PROCESSES", for_processes)
    tree(tmp_path, 30)
    listed = list_image_files(tmp_path)
    (tmp_path / listed.names[4]).write_bytes((tmp_path / listed.names[5]).read_bytes() + b" ")
    encoded = decoding.EncodedImages(
        source="data",
        names=listed.names,
        contents=lambda: (tmp_path / name for name in listed.names),
        stamp=listed.stamp,
    )
    decoded = decoding.decode_all(encoded, None, decoding.MemoryStore)
    changed = [problem.where for problem in decoded.problems if problem.kind == "changed"]
    assert changed == [listed.names[4]]
    assert np.array_equal(decoded.images[4], decoded.images[5])


def test_a_script_without_main_guard_is_not_run_again(tmp_path: Path, cache: Path) -> None:
    tree(tmp_path / "data", 2100)
    script = tmp_path / "script.py"
    script.write_text(
        "from fewlabels.data import load_images\n"
        f"print(len(load_images({str(tmp_path / 'data')!r})))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2100\n"), done.stderr


def test_a_full_disk_while_caching_leaves_no_half_cache(tmp_path: Path, cache: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails halfway."""
    tree(tmp_path / "data", 300)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "data").rglob("*"))
    program = f"""
import resource, signal
from fewlabels.data import load_images
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
print(len(load_images({str(tmp_path / "data")!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "300\n"), done.stderr
    assert "kept in memory" in done.stderr
    assert list((cache / "images").iterdir()) == []
    after = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "data").rglob("*"))
    assert after == before
