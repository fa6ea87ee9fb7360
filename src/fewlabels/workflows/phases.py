"""What phases of a run share, and learning from labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewlabels.augment.mixing import mix
from fewlabels.augment.policies import (
    Policy,
    augment,
    is_identity,
    resolve,
    resolve_name,
    view_name,
)
from fewlabels.blocks.losses import ClassificationConfig, balanced_weights, classification_loss
from fewlabels.blocks.standardise import Standardise
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.data.batches import (
    Augmentation,
    Batches,
    Mix,
    as_tensor,
    channel_statistics,
    to_float,
)
from fewlabels.data.pairs import PairedBatches
from fewlabels.data.selection import Images, select
from fewlabels.errors import ConfigError
from fewlabels.lookup import find
from fewlabels.networks.classifier import Classifier
from fewlabels.networks.weights import load_initial
from fewlabels.randomness import derive_seed, generator, numpy_generator
from fewlabels.semisupervised.objective import SemiSupervised, Task
from fewlabels.semisupervised.pool import probabilities
from fewlabels.training.clock import Clock
from fewlabels.training.device import Compute, choose
from fewlabels.training.trainer import History, PhaseResult, Trainer
from fewlabels.transfer import STRATEGIES
from fewlabels.transfer.full import Full
from fewlabels.transfer.strategy import Strategy
from fewlabels.transfer.supervised import Supervised
from fewlabels.workflows.settings import Settings

MAX_PSEUDO_LABELS = 10_000
"""Unlabelled images that are looked at to see what they were taken for."""

Labels = npt.NDArray[np.int64]


def image_shape(images: Images) -> ImageShape:
    """Channels, height and width of an array of images."""
    return int(images.shape[1]), int(images.shape[2]), int(images.shape[3])


@dataclass(frozen=True)
class LabelledImages:
    """Images with a label each.

    Attributes:
        images: uint8 or float32 (N, C, H, W).
        labels: int64 (N,), none missing.
    """

    images: npt.NDArray[Any]
    labels: Labels

    def __add__(self, other: LabelledImages) -> LabelledImages:
        images = np.concatenate([self.images, other.images])
        return LabelledImages(images, np.concatenate([self.labels, other.labels]))


@dataclass(frozen=True)
class Context:
    """What all phases of a run share.

    Attributes:
        settings: of the run.
        compute: device and precision.
        seed: everything random derives from it.
        checkpoint: from phase name to its checkpoint file; None for no checkpoints.
        on_history: takes a phase's rows as they grow.
    """

    settings: Settings
    compute: Compute
    seed: int
    checkpoint: Callable[[str], Path] | None = None
    on_history: Callable[[History], None] | None = None

    @classmethod
    def of(cls, settings: Settings, **rest: Any) -> Context:
        """The context that the settings ask for."""
        compute = choose(settings.run.device, settings.run.precision)
        return cls(settings, compute, settings.run.seed, **rest)

    def trainer(self, phase: str, config: Any) -> Trainer:
        """A trainer for one phase."""
        return Trainer(
            phase,
            config,
            self.compute,
            seed=derive_seed(self.seed, phase),
            checkpoint=self.checkpoint(phase) if self.checkpoint else None,
            on_history=self.on_history,
        )

    def batches(
        self, images: Images, labels: Labels | None, batch_size: int, phase: str, augmented: bool
    ) -> Batches:
        """Training batches of one phase, augmented as the settings say."""
        return Batches(
            images,
            labels,
            batch_size=batch_size,
            device=self.compute.device,
            augmentation=self.augmentation(images) if augmented else None,
            mix=self.mix(images) if labels is not None else None,
            seed=derive_seed(self.seed, phase, "batches"),
        )

    def augmentation(self, images: Images) -> Augmentation | None:
        """The augmentation for images of this shape; None where the policy changes nothing."""
        _, policy = self.policy(image_shape(images))
        return None if is_identity(policy) else partial(augment, policy=policy)

    def view(self, view: str, images: Images) -> Augmentation | None:
        """The augmentation of the "usual", "weak" or "strong" view in joint training."""
        shape = image_shape(images)
        name = getattr(self.settings.unlabelled, view, "auto")
        if name == "auto":
            convolutional = self.settings.network.convolutional
            asked = self.settings.augment_policy
            name = view_name(view, asked, shape, convolutional=convolutional)
        policy = resolve(name, self.settings.augment, shape)
        return None if is_identity(policy) else partial(augment, policy=policy)

    def mix(self, images: Images) -> Mix | None:
        """How images are mixed with each other in training with labels; None for not at all."""
        _, policy = self.policy(image_shape(images))
        if not (policy.mixup or policy.cutmix):
            return None
        if self.settings.classification.loss != "cross_entropy":
            raise ConfigError(
                "augment.mixup and augment.cutmix mix labels, which only the cross-entropy "
                f"understands. Set both to 0, or classification.loss to cross_entropy; it is "
                f"{self.settings.classification.loss}."
            )
        return partial(mix, mixup=policy.mixup, cutmix=policy.cutmix)

    def policy(self, shape: ImageShape) -> tuple[str, Policy]:
        """Name and ranges of the augmentation policy for images of this shape."""
        name = resolve_name(self.settings.augment_policy, shape)
        return name, resolve(name, self.settings.augment, shape)

    def check_network(self, images: Images) -> None:
        """Build the network once and load its weights, before anything takes time.

        Raises:
            ConfigError: it cannot take the images, or the weights are not its own.
            DownloadError: its weights cannot be had.
        """
        self.new_encoder(images[:1], "check")

    def new_encoder(self, images: Images, phase: str) -> Encoder:
        """An encoder that standardises by these images' channel statistics.

        Its weights are drawn, or those that the settings start from.
        """
        weights = generator(self.seed, phase, "weights")
        encoder: Encoder = self.settings.network.build(image_shape(images), weights)
        for module in encoder.modules():
            if isinstance(module, Standardise):
                module.set_statistics(*channel_statistics(images))
        load_initial(encoder, self.settings.network)
        return encoder


@dataclass(frozen=True)
class Trained:
    """A classifier and the course of its training.

    Attributes:
        classifier: in evaluation mode.
        phase: the training's course.
        pseudo_labels: what unlabelled images were taken for, one row a class; None where there were
            none in play.
    """

    classifier: Classifier
    phase: PhaseResult
    pseudo_labels: list[dict[str, Any]] | None = None


def train_classifier(
    context: Context,
    name: str,
    training: LabelledImages,
    validation: LabelledImages | None,
    num_classes: int,
    *,
    encoder_state: dict[str, Tensor] | None,
    strategy: str | None,
    statistics_from: Images,
    stop_after: int | None = None,
    clock: Clock | None = None,
) -> Trained:
    """Train a classifier on labelled images.

    Args:
        context: settings and machine.
        name: of the phase; it also seeds the head, the order and the augmentation.
        training: what it learns from.
        validation: what early stopping and the curves look at; None for neither.
        num_classes: K.
        encoder_state: weights of a pretrained encoder; None starts from scratch.
        strategy: transfer strategy; None trains everything at the full rate.
        statistics_from: images whose channel statistics standardise the input.
        stop_after: epochs after which to end, with the schedule of the full length.
        clock: how long it may go on; None for as many epochs as the settings say.
    """
    settings = context.settings
    classifier = _new_classifier(context, num_classes, statistics_from, encoder_state)
    weights = _class_weights(settings, training.labels, num_classes)
    chosen: Strategy = find(STRATEGIES, strategy, "transfer strategy")() if strategy else Full()
    objective = Supervised(classifier, settings.classification, chosen, weights)
    batches = context.batches(
        training.images, training.labels, settings.training.batch_size, name, augmented=True
    )
    validate = _validation(classifier, settings, validation)
    trainer = context.trainer(name, settings.training)
    phase = trainer.run(objective, batches, validate=validate, stop_after=stop_after, clock=clock)
    return Trained(classifier, phase)


def check_objective(context: Context, labelled: LabelledImages, num_classes: int) -> None:
    """Refuse a semi-supervised objective that does not go with the network, before anything runs.

    Raises:
        ConfigError: as the objective says.
    """
    if context.settings.semisupervised is not None and len(labelled.labels):
        few = labelled.images[:1]
        classifier = _new_classifier(context, num_classes, few, None)
        context.settings.semisupervised.build(
            Task(
                classifier=classifier,
                classification=context.settings.classification,
                class_weights=None,
                images=few,
                labels=labelled.labels[:1],
                unlabelled=few,
                seed=context.seed,
            )
        )


def train_jointly(
    context: Context,
    name: str,
    training: LabelledImages,
    validation: LabelledImages | None,
    num_classes: int,
    *,
    unlabelled: Images,
    encoder_state: dict[str, Tensor] | None,
    stop_after: int | None = None,
    clock: Clock | None = None,
) -> Trained:
    """Train a classifier on labelled and unlabelled images together.

    Args:
        context: settings and machine.
        name: of the phase; it also seeds the head, the order and the augmentation.
        training: what has labels.
        validation: what the curves look at; None for nothing.
        num_classes: K.
        unlabelled: images (N, C, H, W), the labelled ones may be among them.
        encoder_state: weights of a pretrained encoder; None starts from scratch.
        stop_after: epochs after which to end, with the schedule of the full length.
        clock: how long it may go on; None for as many epochs as the settings say.
    """
    settings = context.settings
    classifier = _new_classifier(context, num_classes, unlabelled, encoder_state)
    task = Task(
        classifier=classifier,
        classification=settings.classification,
        class_weights=_class_weights(settings, training.labels, num_classes),
        images=training.images,
        labels=training.labels,
        unlabelled=unlabelled,
        seed=derive_seed(context.seed, name, "objective"),
    )
    objective: SemiSupervised = settings.semisupervised.build(task)
    batches = _paired_batches(context, name, training, unlabelled)
    validate = _validation(objective.predictor, settings, validation)
    trainer = context.trainer(name, settings.joint_training)
    phase = trainer.run(objective, batches, validate=validate, stop_after=stop_after, clock=clock)
    table = pseudo_label_table(objective, unlabelled, validation, context.seed)
    return Trained(objective.predictor, phase, table)


def _paired_batches(
    context: Context, name: str, training: LabelledImages, unlabelled: Images
) -> PairedBatches:
    settings = context.settings
    return PairedBatches(
        training.images,
        training.labels,
        unlabelled,
        labelled_batch_size=settings.unlabelled.labelled_batch_size,
        batch_size=settings.joint_training.batch_size,
        views=[context.view(view, unlabelled) for view in settings.semisupervised.views],
        device=context.compute.device,
        augmentation=context.view("usual", unlabelled),
        mix=context.mix(unlabelled),
        seed=derive_seed(context.seed, name, "batches"),
        max_batches=settings.unlabelled.epoch_steps,
    )


def pseudo_label_table(
    objective: SemiSupervised, unlabelled: Images, validation: LabelledImages | None, seed: int
) -> list[dict[str, Any]]:
    """What the trained objective takes images for, by class; of many images, a draw is looked at.

    Returns:
        For each class: how many of these unlabelled images are taken for it ("guessed") and how
        many of them count ("used"); of the validation images that are taken for it and count, how
        many there are ("judged") and how many are of that class ("right").
    """
    order = numpy_generator(seed, "pseudo-labels").permutation(len(unlabelled))
    drawn = np.sort(order[:MAX_PSEUDO_LABELS])
    found = probabilities(objective.predictor, select(unlabelled, drawn))
    positions = torch.from_numpy(drawn).to(found.device)
    guesses, counts = objective.taken(positions, found)
    classes = range(objective.num_classes)
    rows = [
        {
            "guessed": int((guesses == label).sum()),
            "used": int(((guesses == label) & counts).sum()),
            "judged": 0,
            "right": 0,
        }
        for label in classes
    ]
    if validation is not None and len(validation.labels):
        found = probabilities(objective.predictor, validation.images)
        taken, sure = (part.cpu().numpy() for part in objective.guesses(found))
        for label in classes:
            judged = (taken == label) & sure
            rows[label]["judged"] = int(judged.sum())
            rows[label]["right"] = int((judged & (validation.labels == label)).sum())
    return rows


def _new_classifier(
    context: Context, num_classes: int, images: Images, encoder_state: dict[str, Tensor] | None
) -> Classifier:
    """With a new head, over an encoder that standardises by these images, pretrained or not."""
    encoder = context.new_encoder(images, "scratch")
    if encoder_state is not None:
        encoder.load_state_dict(encoder_state)
    weights = generator(context.seed, "head")
    return Classifier(encoder, num_classes, weights, context.settings.classification.logit_norm)


def _class_weights(settings: Settings, labels: Labels, num_classes: int) -> Tensor | None:
    if settings.classification.class_weights != "balanced":
        return None
    return balanced_weights(torch.from_numpy(labels), num_classes)


def _validation(
    classifier: Classifier, settings: Settings, labelled: LabelledImages | None
) -> Callable[[], dict[str, float]] | None:
    if labelled is None:
        return None
    return partial(_classification_scores, classifier, settings.classification, labelled)


@torch.inference_mode()
def _classification_scores(
    classifier: Classifier, config: ClassificationConfig, labelled: LabelledImages
) -> dict[str, float]:
    device = next(classifier.head.parameters()).device
    labels = torch.from_numpy(labelled.labels)
    logits = torch.cat(
        [
            classifier(to_float(batch.to(device))).cpu()
            for batch in torch.split(as_tensor(labelled.images), 1_000)
        ]
    )
    loss = classification_loss(config, logits, labels, None)
    correct = (logits.argmax(1) == labels).float().mean()
    return {"val_loss": float(loss), "val_accuracy": float(correct)}
