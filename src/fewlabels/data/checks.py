"""Whether an image set can be trained on."""

from __future__ import annotations

import numpy as np

from fewlabels.data.image_set import ImageSet, Part
from fewlabels.errors import DataError


def check_trainable(data: ImageSet, least_per_class: int = 2) -> None:
    """Make sure that there are labels to learn from and to measure on.

    Labels of the official test part do not count, as nothing may learn from them.

    Args:
        data: all images.
        least_per_class: labels that each class needs: one to learn from, another to measure on.

    Raises:
        DataError: no image has a label, all labels are of one class, or a class has too few.
    """
    labels = data.labels[data.parts != Part.TEST]
    counts = np.bincount(labels[labels >= 0], minlength=data.num_classes)
    present = np.flatnonzero(counts)
    if not len(present):
        raise DataError(
            f"No image of {data.source} has a label. Put images of each class in a sub-folder of "
            "its name, or name a label file with --labels."
        )
    if len(present) == 1:
        raise DataError(
            f"All labels of {data.source} are of one class, {data.class_names[present[0]]!r}. "
            "Label images of at least two classes."
        )
    rare = [data.class_names[index] for index in present if counts[index] < least_per_class]
    if rare:
        names = ", ".join(repr(name) for name in rare[:10]) + (", …" if len(rare) > 10 else "")
        raise DataError(
            f"Each class of {data.source} needs at least {least_per_class} labelled images; these "
            f"have one: {names}. Label more images of them, or remove their labels."
        )
