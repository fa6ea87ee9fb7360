"""Contrastive pretraining: two views of one image are closer than those of different images."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.pretext.objective import Pretext
from fewlabels.pretext.projection import projection


@dataclass(frozen=True, kw_only=True, config=RULES)
class ContrastiveConfig:
    """Settings of contrastive pretraining."""

    num_views: ClassVar[int] = 2

    name: Literal["contrastive"] = "contrastive"
    temperature: PositiveFloat = 0.2
    # Hidden and output units of the projection, which is thrown away afterwards.
    hidden: PositiveInt = 512
    projection: PositiveInt = 128

    def build(self, encoder: Encoder, network: Any, generator: torch.Generator) -> Contrastive:
        """The objective over an encoder, its projection drawn from `generator`."""
        return Contrastive(self, encoder, generator)


class Contrastive(Pretext):
    """``mean -log(exp(z_i z_j / t) / sum_{k != i} exp(z_i z_k / t))``, i and j views of one image.

    z are projections of unit length; k runs over all other views of the batch (NT-Xent).

    Source: A Simple Framework for Contrastive Learning (Chen et al., 2020).
    """

    def __init__(
        self, config: ContrastiveConfig, encoder: Encoder, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        sizes = (encoder.num_features, config.hidden, config.projection)
        self.project = projection(sizes, generator)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss over both views of all images of the batch."""
        (second,) = batch.further_views
        projected = self.project(self.encoder(torch.cat([batch.images, second]))).float()
        return StepResult(contrastive_loss(projected, self.config.temperature))


def contrastive_loss(projected: Tensor, temperature: float) -> Tensor:
    """NT-Xent of projections (2B, P): rows i and B + i are views of one image."""
    directions = F.normalize(projected, dim=1)
    similarities = directions @ directions.T / temperature
    itself = torch.eye(len(directions), dtype=torch.bool, device=directions.device)
    similarities = similarities.masked_fill(itself, -torch.inf)
    partners = torch.arange(len(directions), device=directions.device).roll(len(directions) // 2)
    return F.cross_entropy(similarities, partners)
