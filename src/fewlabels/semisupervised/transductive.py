"""Labels for unlabelled images from a graph over their features, made anew every few epochs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels.contracts import Batch, StepResult
from fewlabels.randomness import numpy_generator
from fewlabels.semisupervised.averaged import AveragedPredictor
from fewlabels.semisupervised.objective import Task, unlabelled_part
from fewlabels.semisupervised.pool import nodes


class Transductive(AveragedPredictor):
    """``mean w_i CE(f(u_i), guess_i)``: guesses come from a graph, with a weight for sureness.

    The weight is one minus the guess's entropy over log K, times a factor that makes up for classes
    of different size. Every `config.every` epochs the graph is made anew over the labelled images
    and a draw of the unlabelled ones; images that were not drawn do not count until the next time.

    Source: Label Propagation for Deep Semi-supervised Learning (Iscen et al., 2019).
    """

    targets: Tensor
    weights: Tensor

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(task, config.decay)
        self.config = config
        self.task = task
        self.register_buffer("targets", torch.zeros(len(task.unlabelled), dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(len(task.unlabelled)))

    @abstractmethod
    def spread(self, nodes: Tensor, labels: Tensor) -> Tensor:
        """Class probabilities of all nodes, float32 (N, K).

        Args:
            nodes: features, float32 (N, D); labelled images come first.
            labels: int64 (M,), of those.
        """

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Make the graph anew where it is time, once the features know something of the labels."""
        super().before_epoch(epoch, num_epochs)
        first = round(self.config.start * num_epochs)
        if epoch < first or (epoch - first) % self.config.every:
            return
        rng = numpy_generator(self.task.seed, "graph", epoch)
        encoder = self.predictor.encoder if epoch else self.classifier.encoder
        count = self.config.nodes - len(self.task.labels)
        features, drawn = nodes(encoder, self.task, count, rng)
        labels = torch.from_numpy(self.task.labels).to(features.device)
        found = self.spread(features, labels)[len(labels) :]
        places = torch.from_numpy(drawn).to(features.device)
        self.weights.zero_()
        self.targets[places] = found.argmax(dim=1)
        self.weights[places] = sureness(found)

    def taken(self, positions: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """What the last graph says; images that were not in it do not count."""
        in_graph = self.weights[positions] > 0
        labels = torch.where(in_graph, self.targets[positions], probabilities.argmax(dim=1))
        return labels, in_graph

    def loss(self, batch: Batch, step: int) -> StepResult:
        """All images in one pass."""
        unlabelled = unlabelled_part(batch)
        view = unlabelled.views[0]
        logits = self.classifier(torch.cat([batch.images, view])).float()
        known, unknown = logits.split([len(batch.images), len(view)])
        guesses, weights = self.targets[unlabelled.positions], self.weights[unlabelled.positions]
        losses = F.cross_entropy(unknown, guesses, reduction="none")
        return self.result(
            batch,
            known,
            (weights * losses).mean(),
            self.config.weight,
            used_share=(weights > 0).float().mean(),
        )


def sureness(probabilities: Tensor) -> Tensor:
    """``(1 - H(p) / log K) * N / (K * size of the guessed class)``, at most 1; from (N, K)."""
    num_classes = probabilities.shape[1]
    entropies = torch.special.entr(probabilities).sum(dim=1)
    sure = (1 - entropies / np.log(num_classes)).clamp_min(0)
    guesses = probabilities.argmax(dim=1)
    sizes = torch.bincount(guesses, minlength=num_classes).float()
    balance = len(guesses) / (num_classes * sizes.clamp_min(1))
    weights: Tensor = (sure * balance[guesses]).clamp_max(1.0)
    return weights
