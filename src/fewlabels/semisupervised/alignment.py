"""How common the classes are among the unlabelled images."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, NonNegativeFloat
from torch import Tensor

from fewlabels.errors import ConfigError
from fewlabels.semisupervised.objective import Task


def _positive(value: object) -> object:
    if isinstance(value, tuple) and not sum(value) > 0:
        raise ValueError("must hold at least one share above 0")
    return value


Alignment = Annotated[
    Literal["none", "uniform", "labels"] | tuple[NonNegativeFloat, ...], AfterValidator(_positive)
]
"""In settings: "none" where the unlabelled images may be of other shares or other classes,
"uniform", the shares among the "labels", or shares by class."""


def class_prior(alignment: str | tuple[float, ...], task: Task) -> Tensor:
    """Shares of the classes, float32 (K,), sum 1.

    Raises:
        ConfigError: shares given for another number of classes.
    """
    count = task.num_classes
    if isinstance(alignment, tuple):
        if len(alignment) != count:
            raise ConfigError(
                f"`semisupervised.alignment` gives shares of {len(alignment)} classes, but the "
                f"images have {count}. Give one share for each class, in the order of their names."
            )
        shares = torch.tensor(alignment, dtype=torch.float32)
    elif alignment == "labels":
        shares = torch.bincount(torch.from_numpy(task.labels), minlength=count).float()
    else:  # nothing can be known of a class without any label
        shares = (torch.bincount(torch.from_numpy(task.labels), minlength=count) > 0).float()
    return shares / shares.sum()
