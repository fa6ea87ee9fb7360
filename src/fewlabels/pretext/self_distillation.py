"""BYOL: predict what an averaged copy of the network makes of another view."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, ParameterGroup, StepResult
from fewlabels.pretext.objective import Pretext
from fewlabels.pretext.projection import projection


@dataclass(frozen=True, kw_only=True, config=RULES)
class SelfDistillationConfig:
    """Settings of self-distillation without negatives."""

    num_views: ClassVar[int] = 2

    name: Literal["self_distillation"] = "self_distillation"
    # Of the teacher's average, per step.
    decay: float = Field(default=0.99, ge=0.0, lt=1.0)
    # Hidden and output units of projection and predictor, which are thrown away afterwards.
    hidden: PositiveInt = 512
    projection: PositiveInt = 128

    def build(self, encoder: Encoder, network: Any, generator: torch.Generator) -> SelfDistillation:
        """The objective over an encoder, its layers drawn from `generator`."""
        return SelfDistillation(self, encoder, generator)


class SelfDistillation(Pretext):
    """``mean |predict(z_1) - z'_2|²`` of unit length, both ways; z' is the teacher's, not learnt.

    The teacher is an average of weights; its batch norms look at the batch, as in the paper.

    Source: Bootstrap Your Own Latent (Grill et al., 2020).
    """

    def __init__(
        self, config: SelfDistillationConfig, encoder: Encoder, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        sizes = (encoder.num_features, config.hidden, config.projection)
        self.project = projection(sizes, generator)
        self.predict = projection((config.projection, config.hidden, config.projection), generator)
        self.teacher = nn.Sequential(copy.deepcopy(encoder), copy.deepcopy(self.project))
        self.teacher.requires_grad_(False)

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """All but the teacher's."""
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {"main": [ParameterGroup(name="student", parameters=learnt)]}

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss over both views of all images of the batch."""
        (second,) = batch.further_views
        views = torch.cat([batch.images, second])
        predicted = self.predict(self.project(self.encoder(views))).float()
        with torch.no_grad():
            taught = self.teacher(views).float()
        ours = predicted.chunk(2)
        theirs = taught.chunk(2)
        loss = distance(ours[0], theirs[1]) + distance(ours[1], theirs[0])
        # 0 where all images are given one and the same vector, 1 / sqrt(D) where they are spread.
        spread = F.normalize(taught, dim=1).std(dim=0).mean()
        return StepResult(loss, {"spread": spread})

    def after_step(self, step: int) -> None:
        """Average the teacher."""
        student = nn.Sequential(self.encoder, self.project)
        with torch.no_grad():
            for mine, theirs in zip(self.teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1 - self.config.decay)


def distance(predicted: Tensor, taught: Tensor) -> Tensor:
    """``2 - 2 cos`` of rows (B, D), the mean."""
    return 2 - 2 * F.cosine_similarity(predicted, taught, dim=1).mean()
