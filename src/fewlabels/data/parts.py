"""Official parts of a data set: which words name them, and when they count."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from fewlabels.data.image_set import NO_LABEL, Part, Problem

PART_WORDS = {
    "train": Part.POOL,
    "training": Part.POOL,
    "val": Part.VALIDATION,
    "valid": Part.VALIDATION,
    "validation": Part.VALIDATION,
    "dev": Part.VALIDATION,
    "test": Part.TEST,
    "testing": Part.TEST,
    "t10k": Part.TEST,
}
"""Words in names of files and folders, and the part that they stand for."""

PART_NAMES = {Part.POOL: "train", Part.VALIDATION: "validation", Part.TEST: "test"}
"""How ids and messages call the parts."""


def part_of_name(name: str) -> Part | None:
    """The part that a file or folder name announces, None where it announces none.

    The name is cut into words at everything that is no letter or digit: "emnist-test" is a test
    part, "contest" is not.
    """
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        if word in PART_WORDS:
            return PART_WORDS[word]
    return None


def settle_parts(
    parts: npt.NDArray[np.int8], labels: npt.NDArray[np.int64], source: str
) -> tuple[npt.NDArray[np.int8], tuple[Problem, ...]]:
    """Keep the parts that can play their role; the others join the pool.

    A validation or test part without any label cannot be measured on, so its images count as
    unlabelled ones, with a `Problem`. Where nothing would be left to train on, the validation part
    is the pool, and then the test part.

    Args:
        parts: int8 (N,), values of `Part`, as the names announce them.
        labels: int64 (N,), -1 for none.
        source: what was read, for messages.
    """
    settled = parts.copy()
    problems = []
    for part in (Part.VALIDATION, Part.TEST):
        inside = parts == part
        if inside.any() and (parts == Part.POOL).any() and (labels[inside] == NO_LABEL).all():
            settled[inside] = Part.POOL
            message = (
                f"its {int(inside.sum())} images have no labels, so nothing can be measured on "
                "them; they are used as images without label"
            )
            where = f"{source}: {PART_NAMES[part]}"
            problems.append(Problem(kind="part", where=where, message=message))
    for part in (Part.VALIDATION, Part.TEST):
        if not (settled == Part.POOL).any():
            settled[settled == part] = Part.POOL
    return settled, tuple(problems)
