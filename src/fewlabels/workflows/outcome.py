"""What came of choosing among candidates, whichever way it was done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from fewlabels.contracts import Encoder
from fewlabels.evaluation.metrics import Evaluation
from fewlabels.training.trainer import PhaseResult
from fewlabels.workflows.model import AnyModel
from fewlabels.workflows.phases import LabelledImages
from fewlabels.workflows.pretraining import Pretrained
from fewlabels.workflows.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The model and how it came about.

    Attributes:
        model: the final one.
        settings: with what was decided on the way.
        chosen: name of what was chosen.
        chosen_epochs: after which the chosen one was best; None where nothing was held out, and for
            baselines.
        comparison: rows of ``result.json``; empty where nothing could be held out.
        judged_by: "validation", "cross-validation" or "nothing".
        judged: the labelled images that candidates were judged by.
        probabilities: of the chosen one on these, (M, K).
        evaluation: of the chosen one on these; None without any.
        encoder: whose features the report maps, and the name of where it comes from.
        pretrained: the pretrained encoder where there is one.
        phases: training phases by name.
        pseudo_labels: what unlabelled images were taken for, by class; None where they were not.
        decisions: sentences.
    """

    model: AnyModel
    settings: Settings
    chosen: str
    chosen_epochs: int | None
    comparison: list[dict[str, Any]]
    judged_by: str
    judged: LabelledImages
    probabilities: npt.NDArray[Any]
    evaluation: Evaluation | None
    encoder: tuple[Encoder, str] | None
    pretrained: Pretrained | None
    phases: dict[str, PhaseResult]
    pseudo_labels: list[dict[str, Any]] | None = None
    decisions: list[str] = field(default_factory=list)
