"""Label propagation: labels flow along a graph of similar images."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from fewlabels.config import RULES
from fewlabels.semisupervised.graph import affinity, neighbours, propagate
from fewlabels.semisupervised.objective import Task, View
from fewlabels.semisupervised.transductive import Transductive


@dataclass(frozen=True, kw_only=True, config=RULES)
class LabelPropagationConfig:
    """Settings of label propagation."""

    views: ClassVar[tuple[View, ...]] = ("strong",)

    name: Literal["label_propagation"] = "label_propagation"
    weight: NonNegativeFloat = 1.0
    # Share of the training, with labels alone, before the first graph.
    start: float = Field(default=0.1, ge=0.0, lt=1.0)
    # Epochs from one graph to the next.
    every: PositiveInt = 2
    # Images in a graph, labelled ones included.
    nodes: PositiveInt = 10_000
    # Neighbours of each image.
    neighbours: PositiveInt = 20
    # How much a node takes from its neighbours rather than from its own label.
    alpha: float = Field(default=0.99, gt=0.0, lt=1.0)
    # Of the cosine similarity: higher ones favour the nearest.
    power: PositiveFloat = 3.0
    # Of the averaged network that predicts, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> LabelPropagation:
        """The objective for a task."""
        return LabelPropagation(self, task)


class LabelPropagation(Transductive):
    """``Z = (1 - a) (1 - a S)^-1 Y``, S the normalised affinities, Y the labels; rows scaled to 1.

    Sources: Learning with Local and Global Consistency (Zhou et al., 2004); Label Propagation for
    Deep Semi-supervised Learning (Iscen et al., 2019).
    """

    def spread(self, nodes: Tensor, labels: Tensor) -> Tensor:
        """Class probabilities of all nodes, float32 (N, K); uniform where no label reaches."""
        config = self.config
        count = min(config.neighbours, len(nodes) - 1)
        graph = affinity(*neighbours(nodes, count), config.power)
        return propagate(graph, labels, self.num_classes, config.alpha).to(nodes)
