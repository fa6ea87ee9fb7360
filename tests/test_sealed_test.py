"""The sealed test set: labels really gone, openings on record, also across runs and threads."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fewlabels.data.image_set import ImageSet
from fewlabels.data.splits import SplitConfig, make_split
from fewlabels.errors import DataError, RunError, StorageError
from fewlabels.evaluation.sealed_test import (
    check_test_set,
    count_openings,
    record_opening,
    seal,
    warning_for,
    write_seal,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def image_set(num_labelled: int = 60, num_images: int = 80) -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % 3
    labels[num_labelled:] = -1
    return ImageSet(
        images=rng.integers(0, 256, (num_images, 1, 4, 4), dtype=np.uint8),
        labels=labels.astype(np.int64),
        class_names=("ant", "bee", "cat"),
        ids=np.array([f"{index:03d}.png" for index in range(num_images)]),
        parts=np.zeros(num_images, dtype=np.int8),
        source="insects",
    )


def make_run(folder: Path, data: ImageSet, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    _, sealed = seal(data, make_split(data, SplitConfig(seed=seed)))
    write_seal(folder / "seal.json", sealed)
    return folder / "seal.json"


def test_sealed_labels_are_gone_and_the_others_are_not() -> None:
    data = image_set()
    split = make_split(data, SplitConfig())
    rest, sealed = seal(data, split)
    assert np.all(rest.labels[split.test] == -1)
    others = np.setdiff1d(np.arange(len(data)), split.test)
    assert np.array_equal(rest.labels[others], data.labels[others])
    assert np.all(data.labels[split.test] >= 0)
    assert sealed.num_images == len(split.test) == 12
    assert sealed.ids.tolist() == data.ids[split.test].tolist()


def test_labels_of_copies_are_gone_too() -> None:
    data = image_set()
    data.parts[70:] = 2
    labels = data.labels.copy()
    labels[70:] = 1
    data.images[0] = data.images[75]
    data = data.with_labels(labels)
    rest, _ = seal(data, make_split(data, SplitConfig()))
    assert rest.labels[0] == -1


def test_the_record_holds_no_labels() -> None:
    _, sealed = seal(image_set(), make_split(image_set(), SplitConfig()))
    record = sealed.record()
    assert record == {"test_set": sealed.digest, "num_images": 12, "openings": []}
    assert not any(hasattr(sealed, name) for name in ("labels", "counts"))


def test_the_digest_names_ids_pixels_and_labels_but_no_order() -> None:
    data = image_set()
    split = make_split(data, SplitConfig())
    digest = seal(data, split)[1].digest
    order = np.random.default_rng(1).permutation(len(data))
    shuffled = data.take(order)
    assert seal(shuffled, make_split(shuffled, SplitConfig()))[1].digest == digest

    labels = data.labels.copy()
    labels[split.test[0]] = (labels[split.test[0]] + 1) % 3
    images = data.images.copy()
    images[split.test[0], 0, 0, 0] ^= 1
    changed = (
        data.with_labels(labels),
        ImageSet(**{**vars(data), "images": images}),
        ImageSet(**{**vars(data), "ids": np.char.add("x", data.ids)}),
    )
    assert digest not in [seal(other, split)[1].digest for other in changed]
    elsewhere = data.labels.copy()
    elsewhere[split.train] = 0
    assert seal(data.with_labels(elsewhere), split)[1].digest == digest


def test_openings_are_appended(tmp_path: Path) -> None:
    file = make_run(tmp_path / "first", image_set())
    assert record_opening(file, run="first", when=NOON, result={"accuracy": 0.9}) == 1
    later = NOON + timedelta(hours=1)
    assert record_opening(file, run="first", when=later, result={"accuracy": 0.8}) == 2
    record = json.loads(file.read_text())
    assert record["num_images"] == 12
    assert record["openings"] == [
        {"when": "2026-03-01T12:00:00+00:00", "run": "first", "result": {"accuracy": 0.9}},
        {"when": "2026-03-01T13:00:00+00:00", "run": "first", "result": {"accuracy": 0.8}},
    ]
    assert os.listdir(file.parent) == ["seal.json"]


def test_sealing_again_keeps_the_openings(tmp_path: Path) -> None:
    data = image_set()
    file = make_run(tmp_path / "first", data)
    record_opening(file, run="first", when=NOON, result={})
    before = file.read_text()
    write_seal(file, seal(data, make_split(data, SplitConfig()))[1])
    assert file.read_text() == before
    with pytest.raises(DataError, match="are not those that"):
        write_seal(file, seal(data, make_split(data, SplitConfig(seed=1)))[1])


def test_simultaneous_openings_are_all_recorded(tmp_path: Path) -> None:
    file = make_run(tmp_path / "first", image_set())

    def open_it(index: int) -> int:
        return record_opening(file, run=f"run {index}", when=NOON, result={})

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(open_it, range(40)))
    assert sorted(counts) == list(range(1, 41))
    runs = [opening["run"] for opening in json.loads(file.read_text())["openings"]]
    assert sorted(runs) == sorted(f"run {index}" for index in range(40))


def test_openings_are_counted_over_all_runs_with_the_same_test_set(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", image_set())
    second = make_run(tmp_path / "second", image_set())
    other = make_run(tmp_path / "other", image_set(), seed=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "seal.json").write_text("{")
    record_opening(second, run="second", when=NOON, result={"accuracy": 0.8})
    record_opening(other, run="other", when=NOON, result={"accuracy": 0.7})
    assert warning_for(count_openings(first, tmp_path)) is None
    record_opening(first, run="first", when=NOON - timedelta(days=1), result={"accuracy": 0.9})
    openings = count_openings(first, tmp_path)
    assert [opening["folder"] for opening in openings] == ["first", "second"]
    assert openings == count_openings(second, tmp_path)
    # A run outside the folder counts its own openings as well.
    assert len(count_openings(first, tmp_path / "nowhere")) == 1


def test_the_second_opening_warns() -> None:
    openings = [{"when": f"2026-03-0{day}", "run": f"run {day}"} for day in range(1, 7)]
    assert warning_for([]) is None
    assert warning_for(openings[:1]) is None
    second = warning_for(openings[:2])
    assert second is not None
    assert "opened 2 times (earlier by run 1 on 2026-03-01)" in second
    sixth = warning_for(openings)
    assert sixth is not None
    assert "run 3 on 2026-03-03, run 4 on 2026-03-04, run 5 on 2026-03-05, and 2 before" in sixth


def test_a_changed_test_set_is_noticed(tmp_path: Path) -> None:
    data = image_set()
    file = make_run(tmp_path / "first", data)
    split = make_split(data, SplitConfig())
    check_test_set(file, seal(data, split)[1])
    data.images[split.test[3]] += 1
    with pytest.raises(DataError, match="are not those that"):
        check_test_set(file, seal(data, split)[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no seal"),
        ("{", "cannot be read"),
        ("[]", "not of this version"),
        ('{"test_set": "ab", "openings": [1]}', "not of this version"),
    ],
)
def test_an_unusable_seal_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "run" / "seal.json"
    if content is not None:
        file.parent.mkdir()
        file.write_text(content)
    with pytest.raises(RunError, match=message):
        record_opening(file, run="run", when=NOON, result={})


def test_a_failed_write_leaves_the_seal_as_it_was(tmp_path: Path) -> None:
    file = make_run(tmp_path / "run", image_set())
    before = file.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        record_opening(file, run="run", when=NOON, result={"accuracy": float("nan")})
    assert file.read_text() == before
    assert os.listdir(file.parent) == ["seal.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_opening_that_cannot_be_written_down_raises(tmp_path: Path) -> None:
    file = make_run(tmp_path / "run", image_set())
    file.parent.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"seal\.json"):
            record_opening(file, run="run", when=NOON, result={})
    finally:
        file.parent.chmod(0o700)
