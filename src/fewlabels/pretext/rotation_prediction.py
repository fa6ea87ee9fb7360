"""Rotation prediction: by how many quarter turns was the image turned?"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.errors import ConfigError
from fewlabels.pretext.objective import Pretext

_QUARTERS = 4


@dataclass(frozen=True, kw_only=True, config=RULES)
class RotationPredictionConfig:
    """Settings of rotation prediction; it has none."""

    num_views: ClassVar[int] = 1
    augmented: ClassVar[bool] = True

    name: Literal["rotation_prediction"] = "rotation_prediction"

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> RotationPrediction:
        """The objective over an encoder, its head drawn from `generator`."""
        return RotationPrediction(self, encoder, generator)


class RotationPrediction(Pretext):
    """``mean CE(head(f(turned r times)), r)`` over all four turns of every image.

    Of no use where images look the same in every position, and misleading where turning makes
    another class of them, as with the digits 6 and 9.

    Source: Unsupervised Representation Learning by Predicting Image Rotations (Gidaris et al.,
    2018).
    """

    def __init__(
        self, config: RotationPredictionConfig, encoder: Encoder, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        _, height, width = encoder.image_shape
        if height != width:
            raise ConfigError(
                f"Rotation prediction needs square images, as a quarter turn swaps the sides. Got "
                f"{height} × {width}. Use --image-size {min(height, width)} or another objective."
            )
        self.encoder = encoder
        self.head = empty_linear(encoder.num_features, _QUARTERS)
        initialise(self.head, "xavier", generator)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss over all turns of all images of the batch."""
        turned = torch.cat([batch.images.rot90(turns, (2, 3)) for turns in range(_QUARTERS)])
        turns = torch.arange(_QUARTERS, device=turned.device).repeat_interleave(len(batch.images))
        logits = self.head(self.encoder(turned)).float()
        right = (logits.argmax(dim=1) == turns).float().mean()
        return StepResult(F.cross_entropy(logits, turns), {"rotation_accuracy": right})
