"""From a source to images with roles: read, hide, split, seal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewlabels.data import load_images
from fewlabels.data.checks import check_trainable
from fewlabels.data.drawing import Positions
from fewlabels.data.image_set import NO_LABEL, ImageSet
from fewlabels.data.memory import gather
from fewlabels.data.splits import Split, hide_labels, make_split
from fewlabels.evaluation.sealed_test import SealedTest, seal
from fewlabels.workflows.phases import LabelledImages
from fewlabels.workflows.settings import DataConfig, Settings


@dataclass(frozen=True)
class Prepared:
    """Images with roles; the test labels are sealed away.

    Attributes:
        data: all images; test images and images beyond the split have no label.
        split: positions by role.
        sealed: digest of the test set, for ``seal.json``.
    """

    data: ImageSet
    split: Split
    sealed: SealedTest

    @property
    def training(self) -> LabelledImages:
        """What classifiers learn from."""
        return labelled(self.data, self.split.train)

    @property
    def validation(self) -> LabelledImages:
        """What classifiers are chosen by."""
        return labelled(self.data, self.split.validation)

    def counts(self) -> dict[str, int]:
        """Number of images by role."""
        split = self.split
        roles = {
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "held_back": len(split.unused),
        }
        return {**roles, "unlabelled": int((self.data.labels == NO_LABEL).sum()) - len(split.test)}


def labelled(data: ImageSet, positions: Positions) -> LabelledImages:
    """The images at `positions` with their labels."""
    return LabelledImages(gather(data.images, positions), data.labels[positions])


def read_source(config: DataConfig) -> ImageSet:
    """Read what ``data.source`` names: a path, or a built-in data set where no such path exists."""
    return load_images(
        config.source,
        labels=config.labels,
        image_size=None if config.image_size is None else str(config.image_size),
        keep=config.keep,
    )


def prepare(
    settings: Settings, saved_split: Mapping[str, Any] | None = None
) -> tuple[Prepared, ImageSet]:
    """Read, hide, split and seal as the settings say.

    Args:
        settings: of the run.
        saved_split: what ``splits.json`` holds, to find the same images again; None draws anew.

    Returns:
        The images with roles, and the same images with the test labels still on, which only the
        opening of the seal may look at.

    Raises:
        DataError: the images or labels cannot be used.
    """
    data = read_source(settings.data)
    needs_none = settings.run.task == "pretrain" and not len(data.labelled)
    if not needs_none:
        check_trainable(data, settings.split.least_per_class)
    if settings.data.num_labels is not None:
        data = hide_labels(data, settings.data.num_labels, settings.data.label_seed)
    if saved_split is not None:
        split = Split.from_json(saved_split, data)
    elif needs_none:
        split = Split.without_labels(data)
    else:
        split = make_split(data, settings.split)
    without_test, sealed = seal(data, split)
    return Prepared(only_split_labels(without_test, split), split, sealed), data


def only_split_labels(data: ImageSet, split: Split) -> ImageSet:
    """The same images with the labels of training and validation alone, for nothing else to use."""
    labels = np.full_like(data.labels, NO_LABEL)
    for positions in (split.train, split.validation):
        labels[positions] = data.labels[positions]
    return data.with_labels(labels)
