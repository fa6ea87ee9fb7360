"""Ways from labels to a classifier: from scratch, from a pretrained encoder, or with all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from fewlabels.data.selection import Selection
from fewlabels.progress import say
from fewlabels.training.clock import Clock
from fewlabels.workflows.artefact import load_artefact
from fewlabels.workflows.phases import (
    Context,
    LabelledImages,
    Trained,
    train_classifier,
    train_jointly,
)
from fewlabels.workflows.pretraining import Pretrained, pretrain
from fewlabels.workflows.settings import Settings

Kind = Literal["scratch", "transfer", "semisupervised"]


@dataclass(frozen=True)
class Method:
    """One way.

    Attributes:
        name: of its training phase.
        kind: what it learns from beside the labels: nothing, a pretrained encoder, all images.
        strategy: transfer strategy; None where there is nothing to transfer.
        pretrained: whether it starts from the pretrained encoder.
        title: what is said while it runs.
    """

    name: str
    kind: Kind
    strategy: str | None
    pretrained: bool
    title: str


SCRATCH = Method("scratch", "scratch", None, False, "The network from scratch, on the labels alone")
GIVEN_WEIGHTS = Method(
    "given_weights", "scratch", None, False, "The network as given, on the labels alone"
)


def labels_alone(settings: Settings) -> Method:
    """Learning from the labels alone: from scratch, unless the settings give weights."""
    return SCRATCH if settings.network.weights == "none" else GIVEN_WEIGHTS


def transfer(strategy: str) -> Method:
    """The pretrained encoder under one transfer strategy."""
    title = f"Transfer of the pretrained encoder: {strategy}"
    return Method(f"transfer_{strategy}", "transfer", strategy, True, title)


def semisupervised(settings: Settings) -> Method:
    """The semi-supervised objective of the settings."""
    name = settings.semisupervised.name
    title = f"Labelled and unlabelled images together: {name.replace('_', ' ')}"
    return Method(name, "semisupervised", None, settings.unlabelled.pretrained, title)


def methods(settings: Settings, num_unlabelled: int) -> list[Method]:
    """What the settings ask for, the cheapest first.

    Without unlabelled images there is no semi-supervised training, which is said.
    """
    chosen = [labels_alone(settings), *map(transfer, settings.transfer.strategies)]
    if settings.semisupervised is not None:
        if num_unlabelled > 0:
            return [*chosen, semisupervised(settings)]
        say("There are no unlabelled images, so the labels have to do alone.")
    return chosen


def pretrains(settings: Settings) -> bool:
    """Whether any method starts from an encoder that is yet to be pretrained."""
    return settings.transfer.encoder == "none" and any(
        method.pretrained for method in methods(settings, 1)
    )


def train(
    context: Context,
    method: Method,
    phase: str,
    training: LabelledImages,
    validation: LabelledImages | None,
    num_classes: int,
    *,
    pool: Selection,
    encoder_state: Callable[[], dict[str, Tensor]],
    stop_after: int | None = None,
    clock: Clock | None = None,
) -> Trained:
    """Train a classifier by one method.

    Args:
        context: settings and machine.
        method: which.
        phase: name of the training phase.
        training: labelled images to learn from.
        validation: labelled images for the curves and early stopping; None for neither.
        num_classes: K.
        pool: all images that may be learnt from without labels.
        encoder_state: the pretrained encoder's weights, asked for where they are needed.
        stop_after: epochs after which to end, with the schedule of the full length.
        clock: how long it may go on; None for as many epochs as the settings say.
    """
    state = encoder_state() if method.pretrained else None
    if method.kind == "semisupervised":
        return train_jointly(
            context,
            phase,
            training,
            validation,
            num_classes,
            unlabelled=pool,
            encoder_state=state,
            stop_after=stop_after,
            clock=clock,
        )
    return train_classifier(
        context,
        phase,
        training,
        validation,
        num_classes,
        encoder_state=state,
        strategy=method.strategy,
        statistics_from=pool,
        stop_after=stop_after,
        clock=clock,
    )


class Pretraining:
    """Pretrains when the first method asks for it, and never twice; or takes what a run left."""

    def __init__(self, context: Context, pool: Selection) -> None:
        self._context = context
        self._pool = pool
        self._given: dict[str, Tensor] | None = None
        self.done: Pretrained | None = None

    def encoder_state(self) -> dict[str, Tensor]:
        """The pretrained encoder's weights."""
        run = self._context.settings.transfer.encoder
        if run != "none":
            if self._given is None:
                encoder = load_artefact(Path(run)).objective.finished_encoder()
                self._given = encoder.state_dict()
            return self._given
        if self.done is None:
            say(f"Pretraining on {len(self._pool):,} images without labels …")
            self.done = pretrain(self._context, self._pool)
        return self.done.encoder.state_dict()
