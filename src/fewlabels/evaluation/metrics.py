"""How good a classifier is, with the sample size and an interval beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from fewlabels.data.image_set import NO_LABEL
from fewlabels.errors import DataError

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

CONFIDENCE = 0.95
_NUM_BINS = 15
_RANKS = (2, 3, 5)


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Images whose top probability lies in (low, high].

    Attributes:
        num_images: how many there are.
        confidence: their mean top probability; None without images.
        accuracy: the share that is right; None without images.
    """

    low: float
    high: float
    num_images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        num_images: n.
        num_correct: images whose most probable class is their label.
        accuracy: num_correct / n.
        interval: Wilson 95 % interval of the accuracy.
        top_k: share of images whose label is among the k most probable classes, for k = 2, 3, 5 as
            far as there are more than k classes.
        balanced_accuracy: mean recall of the classes that occur in the labels.
        macro_f1: mean F1 of the classes that occur in the labels or in the predictions.
        log_loss: mean negative logarithm of the label's probability, in nats.
        calibration_error: expected calibration error, 15 bins of equal width.
        reliability: those bins.
        class_names: K names.
        confusion: int64 (K, K), rows are labels, columns predictions.
        recall: for each class; None where it does not occur in the labels.
        precision: for each class; None where it was never predicted.
    """

    num_images: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    top_k: dict[int, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    class_names: tuple[str, ...]
    confusion: Labels
    recall: tuple[float | None, ...]
    precision: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {
            **vars(self),
            "interval": list(self.interval),
            "top_k": {str(k): share for k, share in self.top_k.items()},
            "reliability": [vars(one) for one in self.reliability],
            "class_names": list(self.class_names),
            "confusion": self.confusion.tolist(),
            "recall": list(self.recall),
            "precision": list(self.precision),
        }


class PairedDifference(NamedTuple):
    """Mean of paired differences and its interval, over n pairs; no interval for a single pair."""

    mean: float
    low: float | None
    high: float | None
    n: int


def evaluate(
    probabilities: npt.NDArray[np.floating[Any]], labels: Labels, class_names: Sequence[str]
) -> Evaluation:
    """Compare predicted probabilities with labels.

    Args:
        probabilities: float (N, K) in [0, 1], rows sum to 1.
        labels: int64 (N,) in 0…K-1.
        class_names: K names.

    Raises:
        DataError: no images, images without a label, or numbers that are no probabilities.
    """
    _check(probabilities, labels, class_names)
    chances = np.asarray(probabilities, dtype=np.float64)
    predictions = chances.argmax(axis=1)
    confusion = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    right, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    num_correct, num_images = int(right.sum()), len(labels)
    recall, precision = _ratios(right, support), _ratios(right, predicted)
    f1 = _ratios(2 * right, support + predicted)
    bins = reliability_bins(chances.max(axis=1), predictions == labels)
    return Evaluation(
        num_images=num_images,
        num_correct=num_correct,
        accuracy=num_correct / num_images,
        interval=wilson_interval(num_correct, num_images),
        top_k=_top_k(chances, labels),
        balanced_accuracy=_mean(recall),
        macro_f1=_mean(f1),
        log_loss=_log_loss(chances, labels),
        calibration_error=_calibration_error(bins),
        reliability=bins,
        class_names=tuple(class_names),
        confusion=confusion,
        recall=recall,
        precision=precision,
    )


def wilson_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion, with p = num_correct / n and z = 1.96:

        (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    n, share = num_images, num_correct / num_images
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # At 0 and n the formula gives exactly 0 and 1, rounding errors aside.
    low = 0.0 if num_correct == 0 else (centre - half) / scale
    high = 1.0 if num_correct == n else (centre + half) / scale
    return low, high


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """The mean of a - b over pairs, with its 95 % t interval.

    Args:
        a: n values, for example the accuracies of one method over n label draws.
        b: n values of the other method over the same draws.

    Raises:
        DataError: no pairs, or lists of different length.

    Source: Student, "The Probable Error of a Mean", 1908.
    """
    if len(a) != len(b) or not len(a):
        raise DataError(f"Pairs need two lists of equal length, got {len(a)} and {len(b)} values.")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    if n == 1:
        return PairedDifference(mean, None, None, 1)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return PairedDifference(mean, mean - half, mean + half, n)


def standard_errors_ahead(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """By how many standard errors one is right more often than the other, on the same images.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions",
    1947.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0


def reliability_bins(
    confidence: Floats, correct: npt.NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    """Sort images by their top probability into 15 bins of equal width.

    Args:
        confidence: float64 (N,), top probabilities.
        correct: bool (N,), whether the most probable class is the label.
    """
    which = np.clip(np.ceil(confidence * _NUM_BINS).astype(np.int64) - 1, 0, _NUM_BINS - 1)
    bins = []
    for index in range(_NUM_BINS):
        inside = which == index
        count = int(np.count_nonzero(inside))
        bins.append(
            ReliabilityBin(
                low=index / _NUM_BINS,
                high=(index + 1) / _NUM_BINS,
                num_images=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(correct[inside].mean()) if count else None,
            )
        )
    return tuple(bins)


def _calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of confidence and accuracy, bins weighted by their images.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    gaps = (
        one.num_images * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )
    return sum(gaps) / sum(one.num_images for one in bins)


def _top_k(chances: Floats, labels: Labels) -> dict[int, float]:
    order = np.argsort(-chances, axis=1, kind="stable")  # ties as in argmax: the first class leads
    rank = (order == labels[:, None]).argmax(axis=1)
    return {k: float((rank < k).mean()) for k in _RANKS if k < chances.shape[1]}


def _log_loss(chances: Floats, labels: Labels) -> float:
    chosen = chances[np.arange(len(labels)), labels]
    # A probability rounded to zero would make the loss infinite; scikit-learn's bound.
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).eps)).mean())


def _ratios(numerators: Labels, denominators: Labels) -> tuple[float | None, ...]:
    pairs = zip(numerators.tolist(), denominators.tolist(), strict=True)
    return tuple(above / below if below else None for above, below in pairs)


def _mean(values: Sequence[float | None]) -> float:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined)


def _check(
    probabilities: npt.NDArray[np.floating[Any]], labels: Labels, class_names: Sequence[str]
) -> None:
    if not len(labels):
        raise DataError("There is nothing to evaluate: no image. Name data with labelled images.")
    if probabilities.shape != (len(labels), len(class_names)):
        raise DataError(
            f"Probabilities must have shape ({len(labels)}, {len(class_names)}), one row for each "
            f"label and one column for each class. Got {probabilities.shape}."
        )
    if np.any(labels == NO_LABEL):
        raise DataError(
            f"{np.count_nonzero(labels == NO_LABEL)} of {len(labels)} images to evaluate have no "
            "label. Leave them out."
        )
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(
            f"Labels must lie in 0…{len(class_names) - 1}. Got {labels.min()}…{labels.max()}."
        )
    in_range = np.all((probabilities >= 0) & (probabilities <= 1 + 1e-3))  # False for NaN too
    if not in_range or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise DataError(
            "Predicted probabilities must lie in [0, 1] and sum to 1 for each image. "
            "Infinite or undefined ones mean that training went astray: lower the learning rate."
        )
