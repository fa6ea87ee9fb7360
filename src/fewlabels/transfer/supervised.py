"""Learning from labels: a classifier, its loss, and the strategy that thaws its encoder."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from fewlabels.blocks.losses import (
    ClassificationConfig,
    classification_loss,
    mixed_targets,
)
from fewlabels.contracts import Batch, Objective, ParameterGroup, StepResult
from fewlabels.networks.classifier import Classifier
from fewlabels.transfer.strategy import Strategy


class Supervised(Objective):
    """The classification loss on labelled images, under one transfer strategy.

    Args:
        classifier: encoder and head.
        config: the loss.
        strategy: which stages learn, how fast, from when on.
        class_weights: float32 (K,) or None.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        classifier: Classifier,
        config: ClassificationConfig,
        strategy: Strategy,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = config
        self.strategy = strategy
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._num_frozen = 0

    def loss(self, batch: Batch, step: int) -> StepResult:
        """The configured loss, and the share of the batch that is classified correctly."""
        if batch.labels is None:
            raise AssertionError("supervised training needs labels")
        logits = self.classifier(batch.images)  # (B, K)
        correct = (logits.detach().argmax(1) == batch.labels).float().mean()
        targets = batch.labels
        if batch.mixing is not None:
            targets = mixed_targets(batch.labels, batch.mixing, logits.shape[1])
        loss = classification_loss(self.config, logits, targets, self.class_weights)
        return StepResult(loss, {"train_accuracy": correct})

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """The head and each stage that ever learns, with the strategy's rates."""
        stages = self.classifier.encoder.stages()
        scales = self.strategy.learning_rate_scales(len(stages))
        groups = [ParameterGroup(name="head", parameters=self.classifier.head_parameters())]
        groups += [
            ParameterGroup(
                name=f"stage {i}", parameters=parameters(stage), learning_rate_scale=scale
            )
            for i, (stage, scale) in enumerate(zip(stages, scales, strict=True))
            if scale > 0 and parameters(stage)
        ]
        return {"main": groups}

    def before_epoch(self, epoch: int, num_epochs: int) -> None:
        """Freeze and thaw as the strategy says."""
        stages = self.classifier.encoder.stages()
        self._num_frozen = self.strategy.num_frozen(len(stages), epoch, num_epochs)
        for position, stage in enumerate(stages):
            for parameter in parameters(stage):
                parameter.requires_grad_(position >= self._num_frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Supervised:
        """Training mode, but frozen stages stay in evaluation mode.

        Otherwise their batch norms would drift to the statistics of the few labelled images.
        """
        super().train(mode)
        if mode:
            for stage in self.classifier.encoder.stages()[: self._num_frozen]:
                for module in stage:
                    module.eval()
        return self


def parameters(stage: list[nn.Module]) -> list[nn.Parameter]:
    """All parameters of one stage."""
    return list(itertools.chain.from_iterable(module.parameters() for module in stage))
