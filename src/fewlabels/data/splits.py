"""Which labelled image is trained on, which chosen by, which sealed away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator
from pydantic.dataclasses import dataclass

from fewlabels.config import RULES
from fewlabels.data.apportion import Counts, apportion
from fewlabels.data.drawing import (
    Group,
    Positions,
    as_positions,
    by_id,
    check_classes,
    draw,
    sort_out,
)
from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.errors import DataError, RunError
from fewlabels.randomness import numpy_generator

_PARTS = ("train", "validation", "test", "unused", "excluded")


@dataclass(frozen=True, kw_only=True, config=RULES)
class SplitConfig:
    """How the labelled images are shared out.

    Attributes:
        shares: three whole numbers "train/validation/test". If they sum to exactly 100 they are
            percentages of the labelled images, otherwise numbers of images; a prefix says which
            where that is not what is meant: "counts:50/25/25", "percent:60/20/20". Training and
            validation get at least 1; the test may be 0.
        seed: of the draw.
        least_per_class: labels that each class needs; with 1, a class may be missing from
            validation and test, and where there are too few for all parts, training gets all.
    """

    shares: str = "60/20/20"
    seed: int = 0
    least_per_class: Literal[1, 2] = 2

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: str) -> str:
        _parse_shares(shares)
        return shares


@plain_dataclass(frozen=True, eq=False)
class Split:
    """Positions in an image set, each part in the order of its ids; no image is in two parts.

    Attributes:
        train: intp, labelled images to train on.
        validation: intp, labelled images to choose by.
        test: intp, labelled images to seal away.
        unused: intp, labelled images held back, neither trained on nor chosen by nor sealed.
        excluded: intp, copies of test images, and images of an official test part that have no
            label; no training may see them, with or without labels.
    """

    train: Positions
    validation: Positions
    test: Positions
    unused: Positions
    excluded: Positions

    @classmethod
    def without_labels(cls, data: ImageSet) -> Split:
        """Of images without any label: nothing to learn from or to measure on.

        An official test part is kept out nevertheless, as its labels may come later.
        """
        nothing = as_positions([])
        test_part = by_id(data, np.flatnonzero(data.parts == Part.TEST))
        return cls(
            train=nothing, validation=nothing, test=nothing, unused=nothing, excluded=test_part
        )

    def pretraining(self, num_images: int) -> Positions:
        """Positions of all images that may be learnt from without labels.

        That is everything but `test` and `excluded`.

        Args:
            num_images: size of the image set.
        """
        allowed = np.ones(num_images, dtype=bool)
        allowed[self.test] = False
        allowed[self.excluded] = False
        return np.flatnonzero(allowed)

    def ids(self, data: ImageSet) -> dict[str, npt.NDArray[np.str_]]:
        """The ids of each part's images."""
        return {part: data.ids[getattr(self, part)] for part in _PARTS}

    def to_json(self, data: ImageSet) -> dict[str, list[str]]:
        """What `splits.json` holds: ids, which stay right when the order of the files changes."""
        return {part: ids.tolist() for part, ids in self.ids(data).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], data: ImageSet) -> Split:
        """Find the images of a saved split again.

        Args:
            values: what `to_json` returned.
            data: the same images, in any order; others may have come.

        Raises:
            RunError: `values` is not a saved split.
            DataError: images of the split are no longer there.
        """
        if not all(_is_id_list(values.get(part)) for part in _PARTS):
            raise RunError(
                f"The saved split must list ids under {', '.join(_PARTS)}. "
                "It was written by another version, or changed: start a new run."
            )
        position = {name: index for index, name in enumerate(data.ids.tolist())}
        missing = [name for part in _PARTS for name in values[part] if name not in position]
        if missing:
            raise DataError(
                f"{len(missing)} images of the saved split are missing in {data.source}, "
                f"for example {missing[0]!r}. Restore them, or start a new run."
            )
        return cls(*(as_positions(position[name] for name in values[part]) for part in _PARTS))


def hide_labels(data: ImageSet, num_labels: int, seed: int) -> ImageSet:
    """Pretend that only `num_labels` labels exist outside the official test part.

    The others become -1 for good. Classes keep their proportions (largest remainders), each at
    least one label, and two where `num_labels` allows it. Where the data has an official validation
    part, it keeps a quarter of the labels, so that there is still something to choose by. The
    outcome depends on ids, not on the order of the images.

    Args:
        data: labelled images; its test part is left alone.
        num_labels: how many labels stay.
        seed: of the draw.

    Raises:
        DataError: fewer labels exist, or there are more classes than `num_labels`.
    """
    outside_test = np.flatnonzero((data.labels != NO_LABEL) & (data.parts != Part.TEST))
    present = np.unique(data.labels[outside_test])
    if num_labels > len(outside_test):
        raise DataError(
            f"{num_labels} labels were asked for, but {data.source} has {len(outside_test)} "
            "outside its test part. Ask for at most that many."
        )
    if num_labels < max(len(present), 1):
        raise DataError(
            f"{num_labels} labels were asked for, but {data.source} has {len(present)} classes. "
            "Ask for at least one label for each class, better two."
        )
    rng = numpy_generator(seed, "hide_labels")
    labels = np.where(data.parts == Part.TEST, data.labels, NO_LABEL)
    for kept in _kept_positions(data, outside_test, present, num_labels, rng):
        labels[kept] = data.labels[kept]
    return data.with_labels(labels)


def _kept_positions(
    data: ImageSet,
    outside_test: Positions,
    present: Counts,
    num_labels: int,
    rng: np.random.Generator,
) -> list[Positions]:
    ordered = outside_test[np.argsort(data.ids[outside_test])]
    parts = [Part.POOL, Part.VALIDATION]
    stock = {
        (label, part): ordered[(data.labels[ordered] == label) & (data.parts[ordered] == part)]
        for label in present
        for part in parts
    }
    available = np.array([[len(stock[label, part]) for part in parts] for label in present])
    totals = available.sum(axis=1)
    least = np.minimum(totals, 2 if num_labels >= np.minimum(totals, 2).sum() else 1)
    kept = apportion(num_labels, totals, least, totals)
    # The pool goes first: a class with one label left must be there to be learnt.
    lower = np.maximum(kept - available[:, 0], 0)
    upper = np.minimum(np.maximum(kept - (available[:, 0] > 0), 0), available[:, 1])
    quarter = int(np.clip(round(num_labels / 4), lower.sum(), upper.sum()))
    in_validation = apportion(quarter, kept, lower, upper)
    counts = np.stack([kept - in_validation, in_validation], axis=1)
    return [
        rng.permutation(stock[label, part])[: counts[row, column]]
        for row, label in enumerate(present)
        for column, part in enumerate(parts)
    ]


def make_split(data: ImageSet, config: SplitConfig) -> Split:
    """Share out the labelled images, stratified by class and drawn by id.

    Exact copies of an image always go to one side. An official validation part is used as it is:
    all of its labels for percentages, a draw from it for counts. An official test part is the
    sealed test; the percentages then apply to what is left (60/20/20 becomes 75/25), while the
    third of three counts is still drawn, and held back in `unused`. Labelled images beyond the
    counts belong to no part: they count as unlabelled. A class with few labels is first put into
    the training part.

    Raises:
        DataError: too few labels, one class only, or a class with one label.
    """
    shares = _parse_shares(config.shares)
    stock = sort_out(data)
    check_classes(data, stock, config.least_per_class)
    wanted = {"train": shares.train, "validation": shares.validation, "test": shares.test}
    if len(stock.test):
        held_back = wanted.pop("test")
        wanted["unused"] = 0 if shares.percent else held_back
    rng = numpy_generator(config.seed, "split")
    parts: dict[str, list[int]] = {part: [] for part in _PARTS[:4]}
    if stock.validation:
        asked = {"validation": wanted.pop("validation")}
        parts |= draw(data, stock.validation, asked, shares.percent, rng)
    wanted = {part: amount for part, amount in wanted.items() if amount}
    if shares.percent and config.least_per_class == 1 and _too_few(stock.pool, len(wanted)):
        parts["train"] = [position for group in stock.pool for position in group.members]
    else:
        parts |= draw(data, stock.pool, wanted, shares.percent, rng)
    test = stock.test if len(stock.test) else as_positions(parts["test"])
    near_test = np.isin(stock.group_of, stock.group_of[test]) | stock.near_official_test
    near_test[test] = False
    return Split(
        train=by_id(data, parts["train"]),
        validation=by_id(data, parts["validation"]),
        test=by_id(data, test),
        unused=by_id(data, parts["unused"]),
        excluded=by_id(data, np.flatnonzero(near_test)),
    )


def _too_few(groups: list[Group], num_parts: int) -> bool:
    """Whether some part would get nothing once each class has one image to train on."""
    return len(groups) < len({group.label for group in groups}) + num_parts - 1


@plain_dataclass(frozen=True)
class _Shares:
    train: int
    validation: int
    test: int
    percent: bool


def _parse_shares(text: str) -> _Shares:
    unit, _, numbers = text.rpartition(":")
    fields = [field.strip() for field in numbers.split("/")]
    shares = [int(field) for field in fields if field.isdecimal()]
    percent = sum(shares) == 100 if not unit else unit.strip() == "percent"
    if (
        unit.strip() not in ("", "counts", "percent")
        or len(fields) != 3
        or len(shares) != 3
        or min(shares[:2]) < 1
        or (percent and sum(shares) != 100)
    ):
        raise ValueError(
            "must be three whole numbers for training, validation and test: 60/20/20 are percent, "
            "because they sum to 100; 100/100/100 are images; counts:50/25/25 are images too. "
            "The first two must be at least 1"
        )
    train, validation, test = shares
    return _Shares(train, validation, test, percent)


def _is_id_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
