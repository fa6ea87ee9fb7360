"""Splits: shares, strata, copies, official parts; independent of the order of the files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabels.config import build
from fewlabels.data.apportion import apportion, proportional_table
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.splits import Split, SplitConfig, hide_labels, make_split
from fewlabels.errors import ConfigError, DataError, RunError

PARTS = ("train", "validation", "test", "unused", "excluded")


def image_set(
    labels: list[int], parts: list[int] | None = None, contents: list[int] | None = None
) -> ImageSet:
    """Tiny images whose pixels encode `contents`; each its own content unless given."""
    count = len(labels)
    content = np.arange(count) if contents is None else np.array(contents)
    images = np.stack([content // 256, content % 256], axis=-1).astype(np.uint8)
    return ImageSet(
        images=images.reshape(count, 1, 1, 2),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple(f"class {label}" for label in range(max(labels, default=0) + 1)),
        ids=np.array([f"{index:05d}.png" for index in range(count)]),
        parts=np.array(parts if parts is not None else [0] * count, dtype=np.int8),
        source="tiny",
    )


def id_sets(split: Split, data: ImageSet) -> dict[str, set[str]]:
    return {part: set(ids.tolist()) for part, ids in split.ids(data).items()}


# The first example pays for imports, and a busy machine is no bug.
unhurried = settings(deadline=None)

# Ten to 200 images of 2 to 4 classes, at least two labels each, some unlabelled.
label_lists = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.integers(-1, k - 1), min_size=10, max_size=200).map(
        lambda rest: [*range(k), *range(k), *rest]
    )
)
share_texts = st.sampled_from(["60/20/20", "20/40/40", "98/1/1", "80/20/0", "34/33/33"])


@unhurried
@given(label_lists, share_texts, st.integers(0, 5))
def test_percent_splits_are_disjoint_complete_and_stratified(
    labels: list[int], shares: str, seed: int
) -> None:
    data = image_set(labels)
    split = make_split(data, SplitConfig(shares=shares, seed=seed))
    drawn = np.concatenate([getattr(split, part) for part in PARTS])
    assert sorted(drawn) == data.labelled.tolist()
    sizes = {"train": split.train, "validation": split.validation, "test": split.test}
    for part, positions in sizes.items():
        assert len(positions) or (part == "test" and shares == "80/20/0")
    for label in range(data.num_classes):
        of_class = np.count_nonzero(data.labels == label)
        assert label in data.labels[split.train]
        for part, positions in sizes.items():
            ideal = of_class * len(positions) / len(data.labelled)
            got = np.count_nonzero(data.labels[positions] == label)
            if shares in ("60/20/20", "98/1/1"):  # elsewhere the first training image costs one
                assert abs(got - ideal) <= 1 or (part, got) == ("train", 1)


@unhurried
@given(label_lists, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_files(
    labels: list[int], seed: int, random: object
) -> None:
    data = image_set(labels, contents=[index // 2 for index in range(len(labels))])
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = data.take(order)
    config = SplitConfig(seed=seed)
    try:
        expected = make_split(data, config).to_json(data)
    except DataError:
        with pytest.raises(DataError):
            make_split(shuffled, config)
        return
    assert make_split(shuffled, config).to_json(shuffled) == expected
    # The order within a part is that of the ids, so training sees the same sequence too.
    assert all(ids == sorted(ids) for ids in expected.values())


@unhurried
@given(
    st.lists(
        st.tuples(st.integers(-1, 2), st.integers(0, 2), st.integers(0, 60)),
        min_size=30,
        max_size=150,
    ),
    st.sampled_from(["60/20/20", "5/4/3", "20/40/40"]),
)
def test_copies_never_straddle(rows: list[tuple[int, int, int]], shares: str) -> None:
    labels, parts, contents = (list(column) for column in zip(*rows, strict=True))
    data = image_set([0, 0, 1, 1, 2, 2, *labels], [0] * 6 + parts, [*range(70, 76), *contents])
    try:
        split = make_split(data, SplitConfig(shares=shares))
    except DataError:
        return
    pixels = [bytes(image) for image in data.images]
    content = {part: {pixels[i] for i in getattr(split, part)} for part in PARTS}
    for part in ("train", "validation", "unused"):
        assert not content[part] & content["test"]
        assert not content[part] & content["excluded"]
    assert not content["train"] & (content["validation"] | content["unused"])
    assert not content["validation"] & content["unused"]
    learnt = {pixels[i] for i in split.pretraining(len(data))}
    assert not learnt & content["test"]
    assert not set(split.pretraining(len(data))) & set(np.flatnonzero(data.parts == Part.TEST))
    used = np.concatenate([getattr(split, part) for part in PARTS])
    assert len(np.unique(used)) == len(used)


@unhurried
@given(label_lists, st.integers(4, 12), st.integers(1, 8), st.integers(1, 8), st.integers(0, 3))
def test_counts_are_exact_without_copies(
    labels: list[int], train: int, validation: int, test: int, seed: int
) -> None:
    data = image_set(labels)
    config = SplitConfig(shares=f"counts:{train}/{validation}/{test}", seed=seed)
    if train + validation + test > len(data.labelled):
        with pytest.raises(DataError, match=f"has {len(data.labelled)} to draw from"):
            make_split(data, config)
        return
    split = make_split(data, config)
    sizes = [len(part) for part in (split.train, split.validation, split.test, split.unused)]
    assert sizes == [train, validation, test, 0]
    assert set(np.unique(data.labels[split.train])) == set(range(data.num_classes))


@unhurried
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_tables_lie_within_one_of_proportion(rows: list[int], weights: list[int]) -> None:
    row_sums = np.array(rows)
    columns = apportion(int(row_sums.sum()), np.array(weights))
    table = proportional_table(row_sums, columns, fill_first=False)
    assert table.sum(axis=0).tolist() == columns.tolist()
    assert table.sum(axis=1).tolist() == rows
    assert np.all(table >= 0)
    assert np.all(np.abs(table - np.outer(row_sums, columns) / row_sums.sum()) < 1)
    if columns[0] >= len(rows):
        first = proportional_table(row_sums, columns, fill_first=True)
        assert first.sum(axis=0).tolist() == columns.tolist()
        assert first.sum(axis=1).tolist() == rows
        assert np.all(first[:, 0] >= 1)


def test_largest_remainders_agree_with_a_textbook_example() -> None:
    # en.wikipedia.org/wiki/Largest_remainder_method: Hare quota, 100,000 votes, 10 seats.
    votes = np.array([47_000, 16_000, 15_800, 12_000, 6_100, 3_100])
    assert apportion(10, votes).tolist() == [5, 2, 1, 1, 1, 0]


def test_two_splits_with_one_seed_are_equal_and_another_seed_differs() -> None:
    data = image_set([index % 3 for index in range(300)])
    first, again = (make_split(data, SplitConfig(seed=4)).to_json(data) for _ in range(2))
    assert first == again
    assert make_split(data, SplitConfig(seed=5)).to_json(data) != first


def test_an_official_test_part_is_the_sealed_test() -> None:
    data = image_set([index % 2 for index in range(100)], [0] * 60 + [2] * 40)
    split = make_split(data, SplitConfig())
    assert split.test.tolist() == list(range(60, 100))
    assert (len(split.train), len(split.validation)) == (45, 15)  # 60/20 becomes 75/25
    assert not len(split.unused)
    assert split.pretraining(len(data)).tolist() == list(range(60))


def test_with_an_official_test_part_the_third_count_is_held_back() -> None:
    data = image_set([index % 2 for index in range(100)], [0] * 60 + [2] * 40)
    split = make_split(data, SplitConfig(shares="20/10/15"))
    assert [len(getattr(split, part)) for part in PARTS] == [20, 10, 40, 15, 0]
    assert len(split.pretraining(len(data))) == 60


def test_an_official_validation_part_is_used_as_validation() -> None:
    data = image_set([index % 2 for index in range(100)], [0] * 80 + [1] * 20)
    split = make_split(data, SplitConfig())
    assert split.validation.tolist() == list(range(80, 100))
    assert (len(split.train), len(split.test)) == (60, 20)
    drawn = make_split(data, SplitConfig(shares="30/10/20"))
    assert [len(getattr(drawn, part)) for part in PARTS] == [30, 10, 20, 0, 0]
    assert set(drawn.validation) <= set(range(80, 100))


def test_both_official_parts_leave_the_pool_for_training() -> None:
    data = image_set([index % 2 for index in range(100)], [0] * 60 + [1] * 20 + [2] * 20)
    split = make_split(data, SplitConfig())
    assert [len(getattr(split, part)) for part in PARTS] == [60, 20, 20, 0, 0]


def test_copies_of_official_test_images_are_excluded_everywhere() -> None:
    contents = [*range(12), 0, 20, 21, 22]
    labels = [index % 2 for index in range(12)] + [0, 1, 0, -1]
    data = image_set(labels, [0] * 12 + [2] * 4, contents)
    split = make_split(data, SplitConfig())
    # Image 0 has a twin in the test part; image 15 is a test image without a label.
    assert split.excluded.tolist() == [0, 15]
    assert split.test.tolist() == [12, 13, 14]
    assert split.pretraining(len(data)).tolist() == list(range(1, 12))


def test_unlabelled_copies_of_drawn_test_images_are_excluded() -> None:
    data = image_set([0, 1] * 10 + [-1] * 20, contents=[*range(20), *range(20)])
    split = make_split(data, SplitConfig())
    assert set(split.excluded) == {position + 20 for position in split.test}


def test_groups_of_copies_are_dealt_out_whole() -> None:
    # 4 classes of 20 groups of three copies each.
    contents = [group for group in range(80) for _ in range(3)]
    data = image_set([group % 4 for group in contents], contents=contents)
    split = make_split(data, SplitConfig())
    sizes = [len(split.train), len(split.validation), len(split.test)]
    assert sum(sizes) == 240
    assert np.abs(np.array(sizes) - [144, 48, 48]).max() <= 12  # one group for each class


def test_a_rare_class_is_put_into_training_first() -> None:
    data = image_set([0] * 50 + [1] * 2)
    for seed in range(5):
        split = make_split(data, SplitConfig(shares="10/45/45", seed=seed))
        assert np.count_nonzero(data.labels[split.train] == 1) == 1


def test_a_saved_split_is_found_again_by_id(tmp_path: Path) -> None:
    data = image_set([index % 3 for index in range(30)], [0] * 20 + [2] * 10)
    split = make_split(data, SplitConfig(shares="9/5/4"))
    file = tmp_path / "splits.json"
    file.write_text(json.dumps(split.to_json(data)))
    reordered = data.take(list(reversed(range(30))))
    found = Split.from_json(json.loads(file.read_text()), reordered)
    assert id_sets(found, reordered) == id_sets(split, data)
    assert found.to_json(reordered) == split.to_json(data)


def test_a_saved_split_with_lost_images_or_keys_is_refused() -> None:
    data = image_set([index % 3 for index in range(30)])
    saved = make_split(data, SplitConfig()).to_json(data)
    with pytest.raises(DataError, match=r"1 images of the saved split are missing in tiny"):
        Split.from_json(saved, data.take(list(range(29))))
    with pytest.raises(RunError, match="written by another version"):
        Split.from_json({key: value for key, value in saved.items() if key != "unused"}, data)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1] * 5, "0 usable labels"),
        ([0] * 5, "all of class 'class 0'"),
        ([0] * 5 + [1], "Class 'class 1' of tiny has 1 labelled"),
    ],
)
def test_too_few_labels_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_split(image_set(labels), SplitConfig())


def test_a_class_that_only_the_test_part_knows_is_refused() -> None:
    data = image_set([0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2])
    with pytest.raises(DataError, match="Class 'class 2' of tiny has 0 labelled"):
        make_split(data, SplitConfig())


def test_fewer_training_images_than_classes_are_refused() -> None:
    data = image_set([index % 5 for index in range(50)])
    with pytest.raises(DataError, match="at least one training image of each class"):
        make_split(data, SplitConfig(shares="4/5/5"))


def test_copies_that_leave_nothing_to_choose_by_are_refused() -> None:
    data = image_set([0, 0, 1, 1], contents=[0, 0, 1, 1])
    with pytest.raises(DataError, match="No image of tiny is left for the validation part"):
        make_split(data, SplitConfig())


@pytest.mark.parametrize(
    "shares", ["60/40", "a/b/c", "60/20/-20", "0/50/50", "50/0/50", "percent:60/20/21", "x:1/1/1"]
)
def test_unreadable_shares_are_refused(shares: str) -> None:
    with pytest.raises(ConfigError, match=r"`split\.shares` must be three whole numbers"):
        build(SplitConfig, {"shares": shares}, "split")


@pytest.mark.parametrize(
    ("shares", "sizes"),
    [
        ("60/20/20", (120, 40, 40)),
        ("percent: 60 / 20 / 20", (120, 40, 40)),
        ("counts:60/20/20", (60, 20, 20)),
        ("60/20/19", (60, 20, 19)),
    ],
)
def test_shares_that_sum_to_100_are_percent(shares: str, sizes: tuple[int, int, int]) -> None:
    split = make_split(image_set([0, 1] * 100), SplitConfig(shares=shares))
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


def test_absurd_counts_are_refused_with_a_sentence() -> None:
    with pytest.raises(DataError, match="has 20 to draw from"):
        make_split(image_set([0, 1] * 10), SplitConfig(shares=f"{10**30}/1/1"))


@unhurried
@given(label_lists, st.integers(1, 150), st.integers(0, 3))
def test_hidden_labels_are_gone_and_the_rest_stratified(
    labels: list[int], num_labels: int, seed: int
) -> None:
    data = image_set(labels)
    sizes = np.bincount(data.labels[data.labelled])
    if not len(sizes) <= num_labels <= len(data.labelled):
        with pytest.raises(DataError, match="labels were asked for"):
            hide_labels(data, num_labels, seed)
        return
    hidden = hide_labels(data, num_labels, seed)
    kept = hidden.labelled
    assert len(kept) == num_labels
    assert np.array_equal(hidden.labels[kept], data.labels[kept])
    counts = np.bincount(hidden.labels[kept], minlength=len(sizes))
    assert counts.min() >= (2 if num_labels >= 2 * len(sizes) else 1)
    ideal = num_labels * sizes / sizes.sum()
    if ideal.min() >= 2:
        assert np.abs(counts - ideal).max() < 1
    order = np.argsort(data.images[:, 0, 0, 1] * 7 % 11, kind="stable")
    again = hide_labels(data.take(order), num_labels, seed)
    assert set(again.ids[again.labelled]) == set(hidden.ids[kept])


def test_hiding_leaves_the_test_part_alone_and_spares_validation() -> None:
    data = image_set([index % 2 for index in range(200)], [0] * 120 + [1] * 40 + [2] * 40)
    hidden = hide_labels(data, 40, 0)
    kept = hidden.labels != -1
    counts = [np.count_nonzero(kept & (data.parts == part)) for part in Part]
    assert counts == [30, 10, 40]
    split = make_split(hidden, SplitConfig())
    assert (len(split.train), len(split.validation), len(split.test)) == (30, 10, 40)


@pytest.mark.real_data
def test_the_exercise_protocol_on_mnist(real_data: Path) -> None:
    raw = gzip.decompress((real_data / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(raw, dtype=np.uint8, offset=8).astype(np.int64)
    data = image_set(labels.tolist())
    hidden = hide_labels(data, 300, 7)
    kept = np.bincount(labels[hidden.labelled])
    assert kept.sum() == 300
    assert np.abs(kept - np.bincount(labels) / 200).max() < 1
    split = make_split(hidden, SplitConfig(shares="100/100/100"))
    assert [len(getattr(split, part)) for part in PARTS] == [100, 100, 100, 0, 0]
    for part in (split.train, split.validation, split.test):
        assert np.abs(np.bincount(labels[part]) - np.bincount(labels) / 600).max() < 1
    assert len(split.pretraining(len(data))) == 59_900
