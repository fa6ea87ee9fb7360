"""Drawing labelled images class by class, copies of an image always together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewlabels.data.apportion import Counts, apportion, proportional_table
from fewlabels.data.duplicates import duplicate_groups
from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.errors import DataError

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Group:
    """Labelled images with the same pixels; almost always just one.

    Attributes:
        label: the commonest among them.
        members: positions, by id.
    """

    label: int
    members: list[int]


@dataclass(frozen=True)
class Stock:
    """What can be drawn from: nothing in `pool` is a copy of anything in the other two.

    Attributes:
        pool: for training, and for whatever has no official part.
        validation: the official validation part with its copies.
        test: positions of the official test part's labelled images.
        group_of: int64 (N,), equal for copies of the same image.
        near_official_test: bool (N,), images of an official test part and their copies.
    """

    pool: list[Group]
    validation: list[Group]
    test: Positions
    group_of: npt.NDArray[np.int64]
    near_official_test: npt.NDArray[np.bool_]


def sort_out(data: ImageSet) -> Stock:
    """Find out which labelled images may be drawn for what.

    Copies of images of an official test part may not be drawn at all; copies of images of an
    official validation part only with these.
    """
    group_of = duplicate_groups(data.images)
    near_test = np.isin(group_of, group_of[data.parts == Part.TEST])
    usable = (data.labels != NO_LABEL) & ~near_test
    in_validation = usable & (data.parts == Part.VALIDATION)
    near_validation = np.isin(group_of, group_of[in_validation])
    return Stock(
        pool=_groups(data, np.flatnonzero(usable & ~near_validation), group_of),
        validation=_groups(data, np.flatnonzero(usable & near_validation), group_of),
        test=np.flatnonzero((data.labels != NO_LABEL) & (data.parts == Part.TEST)),
        group_of=group_of,
        near_official_test=near_test,
    )


def _groups(data: ImageSet, positions: Positions, group_of: npt.NDArray[np.int64]) -> list[Group]:
    members: dict[int, list[int]] = {}
    for position in by_id(data, positions).tolist():
        members.setdefault(int(group_of[position]), []).append(position)
    return [Group(_commonest(data.labels[group]), group) for group in members.values()]


def _commonest(labels: npt.NDArray[np.int64]) -> int:
    return int(labels[0] if len(labels) == 1 else np.bincount(labels).argmax())


def check_classes(data: ImageSet, stock: Stock, least: int = 2) -> None:
    """Make sure that every class can be learnt and chosen by.

    Args:
        data: for names.
        stock: what can be drawn from.
        least: labels that each class needs outside the test part.

    Raises:
        DataError: no labels, one class only, or a class with too few labels.
    """
    pool = _class_sizes(stock.pool, data.num_classes)
    available = pool + _class_sizes(stock.validation, data.num_classes)
    in_test = np.bincount(data.labels[stock.test], minlength=data.num_classes)
    if np.count_nonzero(available) < 2:
        found = [data.class_names[label] for label in np.flatnonzero(available)]
        raise DataError(
            f"{data.source} has {int(available.sum())} usable labels"
            f"{f', all of class {found[0]!r}' if found else ''}. "
            "Label at least two images of each of at least two classes."
        )
    needed = (available > 0) | (in_test > 0)
    few = np.flatnonzero(needed & ((available < least) | (pool < 1)))
    if len(few):
        label = int(few[0])
        images = "image" if available[label] == 1 else "images"
        apart = f", {pool[label]} of them outside the validation part" if stock.validation else ""
        others = f" ({len(few) - 1} more classes are as short)" if len(few) > 1 else ""
        raise DataError(
            f"Class {data.class_names[label]!r} of {data.source} has {available[label]} labelled "
            f"{images} outside the test part{apart}{others}. Each class needs at least "
            f"{least}, one of them to train on: label more, or remove the class."
        )


def _class_sizes(groups: list[Group], num_classes: int) -> Counts:
    sizes = np.zeros(num_classes, dtype=np.int64)
    for group in groups:
        sizes[group.label] += len(group.members)
    return sizes


def draw(
    data: ImageSet,
    groups: list[Group],
    wanted: Mapping[str, int],
    percent: bool,
    rng: np.random.Generator,
) -> dict[str, list[int]]:
    """Draw parts from groups, stratified by class; a group goes to one part or to none.

    Args:
        data: for ids and messages.
        groups: what to draw from, in an order that does not depend on the files'.
        wanted: share or number of images of each part; each class is first given one image in the
            part "train", if that is among them.
        percent: the values of `wanted` are weights, and every group is used; otherwise they are
            numbers of images, and met exactly where no image has copies.
        rng: source of the order within each class.

    Returns:
        Positions by part.

    Raises:
        DataError: too few images.
    """
    sizes = _class_sizes(groups, data.num_classes)
    present = np.flatnonzero(sizes)
    train_first = "train" in wanted
    columns = _column_totals(data, wanted, percent, int(sizes.sum()), len(present))
    rows = sizes[present]
    if not percent:
        rows = apportion(int(columns.sum()), rows, int(train_first), rows)
    table = proportional_table(rows, columns, fill_first=train_first)
    parts: list[list[int]] = [[] for _ in wanted]
    by_class: dict[int, list[list[int]]] = {}
    for group in groups:
        by_class.setdefault(group.label, []).append(group.members)
    for row, label in enumerate(present.tolist()):
        shuffled = [by_class[label][index] for index in rng.permutation(len(by_class[label]))]
        _fill(parts, shuffled, table[row].tolist(), train_first=train_first, use_all=percent)
    for part, positions in zip(wanted, parts, strict=True):
        if not positions:
            raise DataError(
                f"No image of {data.source} is left for the {part} part, because copies of an "
                "image must stay together. Label more images, or ask for other shares."
            )
    return dict(zip(wanted, parts, strict=True))


def _column_totals(
    data: ImageSet, wanted: Mapping[str, int], percent: bool, available: int, num_classes: int
) -> Counts:
    amounts = list(wanted.values())
    least = [num_classes if part == "train" else 1 for part in wanted]
    needed = least if percent else amounts
    if sum(needed) > available or (not percent and amounts[0] < least[0]):
        unit = "percent of the labelled images" if percent else "labelled images"
        request = " + ".join(f"{amount} for {part}" for part, amount in wanted.items())
        raise DataError(
            f"The split asks for {request} {unit}, but {data.source} has {available} to draw from, "
            f"in {num_classes} classes. Ask for no more than there are, and for at least one "
            "training image of each class."
        )
    columns = np.array(amounts, dtype=np.int64)
    return apportion(available, columns, np.array(least)) if percent else columns


def _fill(
    parts: list[list[int]],
    groups: list[list[int]],
    needs: list[int],
    *,
    train_first: bool,
    use_all: bool,
) -> None:
    """Put the groups of one class where they are needed, whole."""
    if use_all:
        groups = sorted(groups, key=len, reverse=True)  # what is left at the end is small
    if train_first:
        fitting = (index for index, group in enumerate(groups) if len(group) <= needs[0])
        smallest = min(range(len(groups)), key=lambda index: len(groups[index]))
        first = next(fitting, smallest)
        groups = [groups[first], *groups[:first], *groups[first + 1 :]]
    for index, group in enumerate(groups):
        choices = [part for part, need in enumerate(needs) if need >= len(group)]
        if index == 0 and train_first:
            choices = [0]
        elif not choices and use_all:
            choices = [max(range(len(needs)), key=needs.__getitem__)]
        if choices:
            parts[choices[0]].extend(group)
            needs[choices[0]] -= len(group)


def by_id(data: ImageSet, positions: Iterable[int]) -> Positions:
    """Positions in the order of their images' ids."""
    array = as_positions(positions)
    return array[np.argsort(data.ids[array])]


def as_positions(values: Iterable[int]) -> Positions:
    """An index array, also of nothing at all."""
    return np.fromiter(values, dtype=np.intp)
