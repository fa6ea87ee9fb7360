"""Folder trees: classes, parts, what is left out, and the cache of decoded images."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data import load_images
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def _picture(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


def _labels(data: ImageSet) -> dict[str, str | None]:
    return {
        name: data.class_names[label] if label >= 0 else None
        for name, label in zip(data.ids.tolist(), data.labels.tolist(), strict=True)
    }


def test_classes_unlabelled_and_loose_images(root: Path) -> None:
    _picture(root / "cat" / "1.png", 10)
    _picture(root / "cat" / "deep" / "2.png", 20)
    _picture(root / "dog" / "1.PNG", 30)
    _picture(root / "unlabelled" / "1.png", 40)
    _picture(root / "Unlabeled" / "x" / "1.png", 50)
    _picture(root / "loose.png", 60)
    data = load_images(root)
    assert _labels(data) == {
        "Unlabeled/x/1.png": None,
        "cat/1.png": "cat",
        "cat/deep/2.png": "cat",
        "dog/1.PNG": "dog",
        "loose.png": None,
        "unlabelled/1.png": None,
    }
    assert data.images[:, 0, 0, 0].tolist() == [50, 10, 20, 30, 60, 40]
    assert (data.parts == Part.POOL).all()
    assert data.facts["modes"] == {"L": 6}


def test_class_names_that_are_numbers_sort_by_value(root: Path) -> None:
    for name in ("10", "9", "1"):
        _picture(root / name / "a.png", int(name))
    assert load_images(root).class_names == ("1", "9", "10")


def test_official_parts(root: Path) -> None:
    for part in ("train", "Val", "test"):
        _picture(root / part / "cat" / "1.png", 1)
        _picture(root / part / "dog" / "1.png", 2)
    _picture(root / "train" / "unlabelled" / "1.png", 3)
    _picture(root / "unlabelled" / "train" / "1.png", 4)
    _picture(root / "loose.png", 5)
    data = load_images(root)
    assert data.class_names == ("cat", "dog")
    parts = dict(zip(data.ids.tolist(), data.parts.tolist(), strict=True))
    assert parts["test/cat/1.png"] == Part.TEST
    assert parts["Val/dog/1.png"] == Part.VALIDATION
    assert parts["train/dog/1.png"] == parts["loose.png"] == Part.POOL
    labels = _labels(data)
    assert labels["train/unlabelled/1.png"] is labels["unlabelled/train/1.png"] is None
    assert labels["test/dog/1.png"] == "dog"


def test_train_beside_other_words_is_a_class(root: Path) -> None:
    for name in ("train", "bus"):
        _picture(root / name / "1.png", 1)
    data = load_images(root)
    assert data.class_names == ("bus", "train")
    assert (data.parts == Part.POOL).all()


def test_test_part_without_labels_joins_the_pool(root: Path) -> None:
    _picture(root / "train" / "cat" / "1.png", 1)
    _picture(root / "train" / "dog" / "1.png", 2)
    _picture(root / "test" / "1.png", 3)
    data = load_images(root)
    assert (data.parts == Part.POOL).all()
    assert [problem.kind for problem in data.problems] == ["part"]


def test_what_is_left_out_is_counted(root: Path) -> None:
    _picture(root / "cat" / "1.png", 1)
    (root / "cat" / "._1.png").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "labels.csv").write_text("x")
    data = load_images(root)
    assert data.facts["ignored"] == {"hidden": 2, ".txt": 1, ".csv": 1}
    messages = [problem.message for problem in data.problems]
    assert len(messages) == 2
    assert any("--labels" in message for message in messages)


def test_bad_files_are_skipped_and_listed(root: Path) -> None:
    for index in range(3):
        _picture(root / "cat" / f"{index}.png", 70)
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "cat" / "text.png").write_text("hello " * 50)
    (root / "cat" / "half.png").write_bytes((root / "cat" / "0.png").read_bytes()[:50])
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    for _ in range(2):  # decoded, and from the cache
        data = load_images(root)
        assert data.ids.tolist() == ["cat/0.png", "cat/1.png", "cat/2.png"]
        assert {problem.where for problem in data.problems if problem.kind == "broken"} == {
            "cat/empty.png",
            "cat/text.png",
            "cat/half.png",
            "cat/gone.png",
        }


def test_mixed_sizes_and_colours(root: Path) -> None:
    _picture(root / "a" / "1.png", 10, (8, 6))
    _picture(root / "a" / "2.png", 20, (8, 6))
    _picture(root / "a" / "3.png", (200, 0, 0), (30, 30))
    _picture(root / "a" / "4.png", 40, (5, 5))
    data = load_images(root)
    assert data.images.shape == (4, 3, 6, 8)
    assert data.images[:, :, 3, 3].tolist() == [[10] * 3, [20] * 3, [200, 0, 0], [40] * 3]
    assert data.facts["sizes"] == {"6x8": 2, "30x30": 1, "5x5": 1}
    assert data.facts["resized"] == {"images": 2}
    assert load_images(root, image_size="4x5").images.shape == (4, 3, 4, 5)
    assert np.array_equal(load_images(root, cache=False).images, data.images)


def test_dark_16_bit_images_are_named(root: Path) -> None:
    root.joinpath("a").mkdir()
    Image.fromarray(np.full((4, 4), 1023, dtype=np.uint16)).save(root / "a" / "1.png")
    (problem,) = load_images(root).problems
    assert problem.kind == "dark"
    assert "below 1024 of 65536" in problem.message


def test_links_are_followed_and_loops_end(root: Path, tmp_path: Path) -> None:
    _picture(tmp_path / "elsewhere" / "1.png", 1)
    _picture(root / "dog" / "1.png", 2)
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "again").symlink_to(root)
    assert {"cat/1.png", "dog/1.png"} <= set(load_images(root).ids.tolist())


def test_names_that_are_no_text_are_problems(root: Path) -> None:
    _picture(root / "a" / "1.png", 1)
    os.link(root / "a" / "1.png", os.fsencode(root) + b"/a/\xff.png")
    (problem,) = load_images(root).problems
    assert "not valid UTF-8" in problem.message


@pytest.mark.parametrize("content", ["nothing", "hidden", "text"])
def test_folder_without_images(root: Path, content: str) -> None:
    if content == "hidden":
        (root / ".a.png").write_bytes(b"x")
    if content == "text":
        (root / "a.txt").write_text("x")
    with pytest.raises(DataError, match="holds no images"):
        load_images(root)


def test_folder_of_broken_images_only(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "1.png").write_bytes(b"")
    (root / "a" / "2.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"None of the 2 images .* a/1.png, is empty"):
        load_images(root)
    assert not list((root.parent / "cache" / "images").iterdir())


def _entries(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (cache / "images").iterdir()}


def _tree(root: Path, count: int = 6) -> None:
    for index in range(count):
        _picture(root / ("cat" if index % 2 else "dog") / f"{index}.png", index * 20)


def test_second_start_reads_the_cache(root: Path, cache: Path) -> None:
    _tree(root)
    first = load_images(root)
    (entry,) = (cache / "images").iterdir()
    times = {path.name: path.stat().st_mtime_ns for path in entry.iterdir()}
    # A cache that is read, not made anew, shows what was put into it.
    images = np.load(entry / "images.npy", mmap_mode="r+")
    images[0] = 123
    images.flush()
    os.utime(entry / "images.npy", ns=(times["images.npy"],) * 2)
    second = load_images(root)
    assert (second.images[0] == 123).all()
    assert np.array_equal(second.images[1:], first.images[1:])
    assert second.ids.tolist() == first.ids.tolist()
    assert second.facts == first.facts
    assert {path.name: path.stat().st_mtime_ns for path in entry.iterdir()} == times


def test_changing_the_array_does_not_change_the_cache(root: Path) -> None:
    _tree(root)
    load_images(root).images[:] = 99
    assert not (load_images(root).images == 99).any()


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed", "size"])
def test_any_change_makes_the_cache_anew(
    root: Path, cache: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _tree(root)
    load_images(root)
    before = _entries(cache)
    if change == "content":
        _picture(root / "dog" / "0.png", 255)
        os.utime(root / "dog" / "0.png", ns=(0, time.time_ns() + 10**9))
    elif change == "new":
        _picture(root / "dog" / "9.png", 255)
    elif change == "gone":
        (root / "dog" / "0.png").unlink()
    elif change == "renamed":
        (root / "dog" / "0.png").rename(root / "dog" / "a.png")
    data = load_images(root, image_size=4 if change == "size" else None)
    if change in ("content", "new"):
        assert (data.images == 255).any()
    if change == "size":
        assert data.image_shape == (1, 4, 4)
        assert len(_entries(cache)) == 2
    else:  # what can never be read again is removed
        assert len(_entries(cache)) == 1
    assert set(_entries(cache)) != set(before)
    said = "files have changed" in capsys.readouterr().err
    assert said == (change != "size")


def test_a_cache_of_another_version_is_made_anew_and_said(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _tree(root)
    monkeypatch.setattr("fewlabels.data.cache.CACHE_VERSION", 0)
    first = load_images(root)
    assert capsys.readouterr().err == ""
    monkeypatch.undo()
    monkeypatch.setenv("FEWLABELS_CACHE", str(cache))
    assert np.array_equal(load_images(root).images, first.images)
    assert "made by another version" in capsys.readouterr().err
    assert len(_entries(cache)) == 1


@pytest.mark.parametrize("damage", ["json", "short", "no_json", "no_array", "shape"])
def test_damaged_cache_is_made_anew(
    root: Path, cache: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _tree(root)
    expected = load_images(root).images.copy()
    (entry,) = (cache / "images").iterdir()
    if damage == "json":
        (entry / "index.json").write_text("{")
    elif damage == "short":
        os.truncate(entry / "images.npy", 200)
    elif damage == "no_json":
        (entry / "index.json").unlink()
    elif damage == "no_array":
        (entry / "images.npy").unlink()
    else:
        index = json.loads((entry / "index.json").read_text())
        (entry / "index.json").write_text(json.dumps(index | {"shape": [1, 1, 1, 1]}))
    assert np.array_equal(load_images(root).images, expected)
    assert "damaged" in capsys.readouterr().err
    assert np.array_equal(np.load(entry / "images.npy"), expected)
    assert len(_entries(cache)) == 1


def test_half_written_entries_are_not_read_and_old_ones_removed(root: Path, cache: Path) -> None:
    _tree(root)
    left = cache / "images" / ".writing-old"
    left.mkdir(parents=True)
    fresh = cache / "images" / ".writing-new"
    fresh.mkdir()
    os.utime(left, (0, 0))
    load_images(root)
    assert not left.exists()
    assert fresh.exists()  # may belong to a process that is still writing


@pytest.mark.parametrize("place", ["under_a_file", "proc"])
def test_unwritable_cache_falls_back_to_memory(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    (tmp_path / "file").write_text("x")
    folder = tmp_path / "file" / "cache" if place == "under_a_file" else "/proc/fewlabels"
    monkeypatch.setenv("FEWLABELS_CACHE", str(folder))
    _tree(root)
    assert len(load_images(root)) == 6
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "kept in memory" in printed.err
    assert printed.err.count("\n") == 1


def test_cache_folder_of_the_desktop_standard(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEWLABELS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    _tree(root)
    load_images(root)
    assert (tmp_path / "xdg" / "fewlabels" / "images").is_dir()


def test_no_cache_writes_nothing(root: Path, cache: Path) -> None:
    _tree(root)
    load_images(root, cache=False)
    assert not cache.exists()


def _load_many(root: Path, cache: Path, sums: multiprocessing.Queue[int]) -> None:
    os.environ["FEWLABELS_CACHE"] = str(cache)
    for _ in range(5):
        sums.put(int(load_images(root).images.astype(np.int64).sum()))


def test_two_processes_at_once(root: Path, cache: Path) -> None:
    _tree(root, 60)
    expected = int(load_images(root, cache=False).images.astype(np.int64).sum())
    context = multiprocessing.get_context("spawn")
    sums: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_load_many, args=(root, cache, sums)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [sums.get(timeout=60) for _ in range(10)] == [expected] * 10
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(_entries(cache)) == 1
