"""Does pretraining help here? Scratch against pretrained over label draws, paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.data.selection import Selection
from fewlabels.data.splits import Split, SplitConfig, hide_labels, make_split
from fewlabels.errors import DataError
from fewlabels.evaluation.metrics import PairedDifference, paired_difference
from fewlabels.evaluation.predict import predict_probabilities
from fewlabels.progress import say
from fewlabels.workflows.methods import labels_alone
from fewlabels.workflows.phases import Context, train_classifier
from fewlabels.workflows.prepare import labelled, read_source
from fewlabels.workflows.pretraining import Pretrained, pretrain
from fewlabels.workflows.settings import Settings


@dataclass(frozen=True)
class Draw:
    """One draw of labels.

    Attributes:
        data: images; only this draw's labels are on.
        split: train, validation (early stopping), and ``test``, which here scores the draw. The
            sealed test set is not among the images.
        pool: positions of the images to pretrain on.
    """

    data: ImageSet
    split: Split
    pool: npt.NDArray[np.intp]


def compare(
    settings: Settings, num_draws: int, *, repeat_pretraining: bool = False
) -> dict[str, Any]:
    """Repeat scratch and transfer over label draws.

    Each draw shares the labelled images out anew: training, validation for early stopping, and a
    third share on which both sides are scored. The sealed test set takes no part.

    Args:
        settings: of every run; seeds and labels change with the draw.
        num_draws: at least 2.
        repeat_pretraining: pretrain anew for every draw, so that the spread holds the spread of
            pretraining too; otherwise one encoder serves all draws.

    Raises:
        DataError: too few draws or labels.
    """
    if num_draws < 2:
        raise DataError(f"A comparison needs at least 2 draws to have a spread. Got {num_draws}.")
    if not settings.transfer.strategies:
        raise DataError("`transfer.strategies` is empty: there is nothing to compare with scratch.")
    alone = labels_alone(settings).name
    data = without_sealed_test(read_source(settings.data), settings)
    draws = [draw_labels(data, settings, number) for number in range(num_draws)]
    # An encoder that serves all draws must not have seen the images that score any of them.
    shared_pool = reduce(np.intersect1d, [draw.pool for draw in draws])
    scores: dict[str, list[float]] = {}
    pretrained: Pretrained | None = None
    for number, draw in enumerate(draws):
        context = Context.of(replace(settings, run=replace(settings.run, seed=number)))
        if pretrained is None or repeat_pretraining:
            pool = draw.pool if repeat_pretraining else shared_pool
            pretrained = pretrain(context, Selection(data.images, pool))
        for name, accuracy in _score(context, draw, pretrained).items():
            scores.setdefault(name, []).append(accuracy)
        shown = ", ".join(f"{name} {values[-1]:.1%}" for name, values in scores.items())
        say(f"Draw {number + 1} of {num_draws}: {shown}")
    return {
        "source": data.source,
        "draws": num_draws,
        "pretraining_repeated": repeat_pretraining,
        "n_per_draw": len(draws[0].split.test),
        "rows": [_row(name, values, scores[alone]) for name, values in scores.items()],
    }


def without_sealed_test(data: ImageSet, settings: Settings) -> ImageSet:
    """Leave out the test images, and copies of them; then nothing can look at their labels."""
    if settings.data.num_labels is not None and (data.parts == Part.TEST).any():
        # The labels are drawn anew for each draw; here only the official test part goes.
        split = make_split(data, SplitConfig(seed=settings.split.seed))
        kept = split.pretraining(len(data))
    else:
        if settings.data.num_labels is not None:
            data = hide_labels(data, settings.data.num_labels, settings.data.label_seed)
        kept = make_split(data, settings.split).pretraining(len(data))
    rest = data.take(kept)
    return replace(rest, parts=np.zeros_like(rest.parts))


def draw_labels(data: ImageSet, settings: Settings, number: int) -> Draw:
    """Share the labelled images out anew.

    Raises:
        DataError: the split leaves nothing to score on.
    """
    if settings.data.num_labels is not None:
        available = int((data.labels != NO_LABEL).sum())
        data = hide_labels(data, min(settings.data.num_labels, available), number)
    shares = settings.split.shares
    wanted = [int(share) for share in shares.rpartition(":")[2].split("/")]
    if sum(wanted) > len(data.labelled):
        # The sealed test took its share of the counts already, so only their ratio is left.
        total = sum(wanted)
        percent = [round(100 * share / total) for share in wanted[:2]]
        shares = f"percent:{percent[0]}/{percent[1]}/{100 - sum(percent)}"
    split = make_split(data, SplitConfig(shares=shares, seed=number))
    if not len(split.test):
        raise DataError(
            f"The split {settings.split.shares} leaves no third share to score the draws on. "
            "Use for example --split 60/20/20."
        )
    known = np.full_like(data.labels, NO_LABEL)
    for positions in (split.train, split.validation, split.test):
        known[positions] = data.labels[positions]
    return Draw(data.with_labels(known), split, split.pretraining(len(data)))


def _score(context: Context, draw: Draw, pretrained: Pretrained) -> dict[str, float]:
    strategies: Sequence[str | None] = [None, *context.settings.transfer.strategies]
    accuracies = {}
    for strategy in strategies:
        name = f"transfer_{strategy}" if strategy else labels_alone(context.settings).name
        state = pretrained.encoder.state_dict() if strategy else None
        accuracies[name] = accuracy_of(context, draw, name, state, strategy)
    return accuracies


def accuracy_of(
    context: Context,
    draw: Draw,
    phase: str,
    encoder_state: dict[str, Tensor] | None,
    strategy: str | None,
) -> float:
    """Train on a draw's labels, and score on its third share.

    Args:
        context: settings and machine.
        draw: of the labels.
        phase: name of the training.
        encoder_state: weights of a pretrained encoder; None starts from scratch.
        strategy: of the transfer; None where there is nothing to transfer.
    """
    scoring = labelled(draw.data, draw.split.test)
    trained = train_classifier(
        context,
        phase,
        labelled(draw.data, draw.split.train),
        labelled(draw.data, draw.split.validation),
        draw.data.num_classes,
        encoder_state=encoder_state,
        strategy=strategy,
        statistics_from=Selection(draw.data.images, draw.pool),
    )
    probabilities = predict_probabilities(
        trained.classifier,
        scoring.images,
        device=context.compute.device,
        precision=context.compute.precision,
    )
    return float((probabilities.argmax(axis=1) == scoring.labels).mean())


def verdict(difference: PairedDifference) -> str:
    """Whether a difference to learning from labels alone is one, in a word."""
    if difference.low is not None and difference.low > 0:
        return "yes"
    if difference.high is not None and difference.high < 0:
        return "no, it hurts"
    return "not shown"


def _row(name: str, values: list[float], alone: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "accuracies": values,
    }
    if values is not alone:
        difference = paired_difference(values, alone)
        row["difference"] = difference._asdict()
        row["helps"] = verdict(difference)
    return row
