"""VICReg: two views agree, features vary, and no two of them say the same."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, StepResult
from fewlabels.pretext.objective import Pretext
from fewlabels.pretext.projection import projection

_LEAST_DEVIATION, _SMALL = 1.0, 1e-4


@dataclass(frozen=True, kw_only=True, config=RULES)
class VarianceInvarianceConfig:
    """Settings of variance-invariance-covariance regularisation; the weights are the paper's."""

    num_views: ClassVar[int] = 2

    name: Literal["variance_invariance"] = "variance_invariance"
    invariance: NonNegativeFloat = 25.0
    variance: NonNegativeFloat = 25.0
    covariance: NonNegativeFloat = 1.0
    # Hidden and output units of the expander, which is thrown away afterwards.
    hidden: PositiveInt = 1024
    expanded: PositiveInt = 1024

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> VarianceInvariance:
        """The objective over an encoder, its expander drawn from `generator`."""
        return VarianceInvariance(self, encoder, generator)


class VarianceInvariance(Pretext):
    """``25 · invariance + 25 · variance + covariance`` of expanded features of two views.

    Source: VICReg (Bardes et al., 2022).
    """

    def __init__(
        self, config: VarianceInvarianceConfig, encoder: Encoder, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        sizes = (encoder.num_features, config.hidden, config.hidden, config.expanded)
        self.expand = projection(sizes, generator)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The loss over both views of all images of the batch."""
        (second,) = batch.further_views
        expanded = self.expand(self.encoder(torch.cat([batch.images, second]))).float()
        first, other = expanded.chunk(2)
        config = self.config
        terms = {
            "invariance": F.mse_loss(first, other),
            "variance": variance_loss(first) + variance_loss(other),
            "covariance": covariance_loss(first) + covariance_loss(other),
        }
        loss = (
            config.invariance * terms["invariance"]
            + config.variance * terms["variance"] / 2
            + config.covariance * terms["covariance"]
        )
        return StepResult(loss, {name: value.detach() for name, value in terms.items()})


def variance_loss(features: Tensor) -> Tensor:
    """``mean max(0, 1 - sqrt(Var + 1e-4))`` over the columns of features (B, D)."""
    deviation = (features.var(dim=0) + _SMALL).sqrt()
    return F.relu(_LEAST_DEVIATION - deviation).mean()


def covariance_loss(features: Tensor) -> Tensor:
    """Sum of the squared covariances of different columns of features (B, D), over D."""
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / (len(features) - 1)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return off_diagonal / features.shape[1]
