"""What is in an image set: counts, sizes, trouble, duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.contact_sheet import contact_sheet
from fewlabels.data.duplicates import duplicate_groups
from fewlabels.data.image_set import NO_LABEL, ImageSet, Problem
from fewlabels.data.parts import PART_NAMES

__all__ = ["Inspection", "contact_sheet", "inspect_images"]

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect_images` found.

    Attributes:
        source: what was read.
        num_images: N.
        image_shape: channels, height, width after reading.
        num_labelled: images with a label.
        num_unlabelled: images without.
        splits: images per split.
        classes: labelled images per class and split.
        unlabelled: images without label per split.
        sizes: images per size (height x width) before resizing.
        modes: images per mode of the file ("L" grey, "RGB", "P" palette, "CMYK", "I;16", …).
        num_resized: images that were brought to another size.
        broken: image files that could not be read.
        missing_images: rows of the label file without an image.
        other_problems: duplicate rows, files left out, and what else looks wrong.
        duplicates: ids of images with equal pixels, group by group.
        conflicting_duplicates: those groups whose labels differ.
        crossing_duplicates: those groups with a test image and a labelled image outside the test.
    """

    source: str
    num_images: int
    image_shape: tuple[int, int, int]
    num_labelled: int
    num_unlabelled: int
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    unlabelled: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    num_resized: int
    broken: tuple[Problem, ...]
    missing_images: tuple[Problem, ...]
    other_problems: tuple[Problem, ...]
    duplicates: tuple[tuple[str, ...], ...]
    conflicting_duplicates: tuple[tuple[str, ...], ...]
    crossing_duplicates: tuple[tuple[str, ...], ...]

    @property
    def num_duplicates(self) -> int:
        """Images that equal an earlier one."""
        return sum(len(group) - 1 for group in self.duplicates)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"num_duplicates": self.num_duplicates}


def inspect_images(data: ImageSet, splits: Mapping[str, Positions] | None = None) -> Inspection:
    """Count, and look for trouble.

    Args:
        data: the images.
        splits: positions of each split; the one called "test" is the border that duplicates must
            not cross. The official parts by default.
    """
    splits = splits or _official_parts(data)
    labels = data.labels
    groups = _groups(data)
    is_test = np.zeros(len(data), dtype=bool)
    is_test[splits.get("test", np.array([], dtype=np.intp))] = True
    conflicting = [group for group in groups if len(set(labels[group]) - {NO_LABEL}) > 1]
    crossing = [
        group
        for group in groups
        if is_test[group].any() and (labels[group][~is_test[group]] != NO_LABEL).any()
    ]
    return Inspection(
        source=data.source,
        num_images=len(data),
        image_shape=data.image_shape,
        num_labelled=len(data.labelled),
        num_unlabelled=len(data) - len(data.labelled),
        splits={name: len(positions) for name, positions in splits.items()},
        classes=_count_classes(data, splits),
        unlabelled={
            name: int((labels[positions] == NO_LABEL).sum()) for name, positions in splits.items()
        },
        sizes=data.facts.get("sizes", {}),
        modes=data.facts.get("modes", {}),
        num_resized=data.facts.get("resized", {}).get("images", 0),
        broken=_problems(data, "broken", "too_large"),
        missing_images=_problems(data, "missing_image"),
        other_problems=tuple(
            problem
            for problem in data.problems
            if problem.kind not in ("broken", "too_large", "missing_image")
        ),
        duplicates=_ids(data, groups),
        conflicting_duplicates=_ids(data, conflicting),
        crossing_duplicates=_ids(data, crossing),
    )


def _official_parts(data: ImageSet) -> dict[str, Positions]:
    splits = {name: np.flatnonzero(data.parts == part) for part, name in PART_NAMES.items()}
    return {name: positions for name, positions in splits.items() if len(positions)}


def _count_classes(data: ImageSet, splits: Mapping[str, Positions]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {name: {} for name in data.class_names}
    for split, positions in splits.items():
        labels = data.labels[positions]
        per_class = np.bincount(labels[labels != NO_LABEL], minlength=data.num_classes)
        for name, count in zip(data.class_names, per_class.tolist(), strict=True):
            counts[name][split] = count
    return counts


def _groups(data: ImageSet) -> list[Positions]:
    """Positions of equal images, for each content that occurs more than once."""
    groups = duplicate_groups(data.images)
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def _ids(data: ImageSet, groups: list[Positions]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(data.ids[group].tolist()) for group in groups)


def _problems(data: ImageSet, *kinds: str) -> tuple[Problem, ...]:
    return tuple(problem for problem in data.problems if problem.kind in kinds)
