"""Message passing: a small graph network labels the nodes of a graph of similar images."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.randomness import generator
from fewlabels.semisupervised.graph import neighbours
from fewlabels.semisupervised.objective import Task, View
from fewlabels.semisupervised.transductive import Transductive

Aggregation = Literal["sum", "mean", "max"]


@dataclass(frozen=True, kw_only=True, config=RULES)
class MessagePassingConfig:
    """Settings of the graph network and of what it is used for."""

    views: ClassVar[tuple[View, ...]] = ("strong",)

    name: Literal["message_passing"] = "message_passing"
    weight: NonNegativeFloat = 1.0
    # Share of the training, with labels alone, before the first graph.
    start: float = Field(default=0.1, ge=0.0, lt=1.0)
    # Epochs from one graph to the next.
    every: PositiveInt = 4
    # Images in a graph, labelled ones included.
    nodes: PositiveInt = 5_000
    # Neighbours of each image.
    neighbours: PositiveInt = 10
    # Rounds of messages; they share their weights.
    rounds: PositiveInt = 3
    # Values that a node and an edge carry.
    width: PositiveInt = 64
    # How a node puts together what comes along its edges.
    aggregation: Aggregation = "mean"
    # Steps of training for each graph.
    steps: PositiveInt = 60
    learning_rate: PositiveFloat = 0.01
    # Of the averaged network that predicts, per step.
    decay: float = Field(default=0.995, ge=0.0, lt=1.0)

    def build(self, task: Task) -> MessagePassing:
        """The objective for a task."""
        return MessagePassing(self, task)


class GraphNetwork(nn.Module):
    """Nodes to logits by rounds of messages along edges, all rounds with the same weights.

    In each round, first ``e_ij = f(e_ij, v_i, v_j)`` for every edge, then
    ``v_i = v_i + g(v_i, aggregate_j e_ij)`` for every node, f and g being small networks.

    Source: Relational inductive biases, deep learning, and graph networks (Battaglia et al., 2018),
    with node updates added to what is there, as in residual networks.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        config: MessagePassingConfig,
        weights: torch.Generator,
    ) -> None:
        super().__init__()
        width = config.width
        self.aggregation: Aggregation = config.aggregation
        self.rounds = config.rounds
        self.enter_node = nn.Sequential(empty_linear(num_features, width), nn.ReLU())
        self.enter_edge = nn.Sequential(empty_linear(1, width), nn.ReLU())
        self.edge = nn.Sequential(
            empty_linear(3 * width, width), nn.ReLU(), empty_linear(width, width), nn.ReLU()
        )
        self.node = nn.Sequential(
            empty_linear(2 * width, width), nn.ReLU(), empty_linear(width, width)
        )
        self.leave = empty_linear(width, num_classes)
        initialise(self, "kaiming", weights)

    def forward(self, nodes: Tensor, positions: Tensor, similarities: Tensor) -> Tensor:
        """Logits, float32 (N, K).

        Args:
            nodes: float32 (N, D).
            positions: int64 (N, k), each node's neighbours, in any order.
            similarities: float32 (N, k), of each edge.
        """
        values = self.enter_node(nodes)
        edges = self.enter_edge(similarities.unsqueeze(2))  # (N, k, W)
        for _ in range(self.rounds):
            own = values.unsqueeze(1).expand(-1, positions.shape[1], -1)
            edges = self.edge(torch.cat([edges, own, values[positions]], dim=2))
            values = values + self.node(torch.cat([values, self._aggregate(edges)], dim=1))
        logits: Tensor = self.leave(values)
        return logits

    def _aggregate(self, edges: Tensor) -> Tensor:
        """Edges (N, k, W) to (N, W), whatever their order."""
        if self.aggregation == "max":
            return edges.amax(dim=1)
        return edges.sum(dim=1) if self.aggregation == "sum" else edges.mean(dim=1)


class MessagePassing(Transductive):
    """A new graph network for each graph, trained on its labelled nodes; it labels the others."""

    def spread(self, nodes: Tensor, labels: Tensor) -> Tensor:
        """Class probabilities of all nodes, float32 (N, K)."""
        positions, similarities = neighbours(nodes, min(self.config.neighbours, len(nodes) - 1))
        scaled = (nodes - nodes.mean(dim=0)) / nodes.std(dim=0).clamp_min(1e-6)
        weights = generator(self.task.seed, "graph network")
        network = GraphNetwork(scaled.shape[1], self.num_classes, self.config, weights)
        network.to(nodes.device)
        optimiser = torch.optim.Adam(
            network.parameters(), lr=self.config.learning_rate, weight_decay=1e-4
        )
        with torch.enable_grad():
            for _ in range(self.config.steps):
                optimiser.zero_grad()
                logits = network(scaled, positions, similarities)
                F.cross_entropy(logits[: len(labels)], labels).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        with torch.no_grad():
            found: Tensor = network(scaled, positions, similarities).softmax(dim=1)
        return found
