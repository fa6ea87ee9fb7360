"""What cheap classifiers reach on the same labels: a network must beat them to be worth it.

For logistic regression, images are centred and divided by one overall length. Dividing pixel by
pixel was no better (300 labels, 2,500 images, mean of 5 draws: MNIST 80.7 % against 81.8 %,
CIFAR-10 (JPEG) 27.8 % against 28.0 %), nor was whitening PCA.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from fewlabels.data.selection import Selection
from fewlabels.errors import DataError
from fewlabels.evaluation.baseline_task import (
    CHUNK,
    BaselineTask,
    Images,
    Labels,
    Pixels,
    flatten,
)
from fewlabels.evaluation.metrics import wilson_interval
from fewlabels.lookup import find

Scores = npt.NDArray[np.float64]
Predictor = Callable[[Pixels], Scores]
"""From pixels (N, D) to a share for each class that has labels, (N, classes), rows sum to 1."""


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """What one baseline reached.

    Attributes:
        name: its key in `BASELINES`.
        accuracy: num_correct / n.
        num_correct: images that it got right.
        n: images that it was judged on.
        num_labels: labels that it was fitted on, at most 5,000.
        seconds: to fit and to predict; the first baseline on PCA also pays for the PCA.
        note: what was left out to keep it cheap; empty if nothing was.
    """

    name: str
    accuracy: float
    num_correct: int
    n: int
    num_labels: int
    seconds: float
    note: str = ""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the accuracy."""
        return wilson_interval(self.num_correct, self.n)

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {**vars(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline that is ready to predict.

    Attributes:
        name: its key in `BASELINES`.
        predictor: from pixels as `flatten` makes them.
        task: what it was fitted on.
    """

    name: str
    predictor: Predictor
    task: BaselineTask

    @property
    def num_labels(self) -> int:
        """Labels that it was fitted on."""
        return len(self.task.labels)

    @property
    def note(self) -> str:
        """What was left out to keep it cheap."""
        reduced = self.num_labels < self.task.num_given
        note = f"fitted on {self.num_labels:,} of {self.task.num_given:,} labels"
        return note if reduced else ""

    def predict(self, images: Images) -> Labels:
        """Classes of uint8 or float32 images (N, C, H, W), int64 (N,)."""
        return np.asarray(self._classes[self._scores(images).argmax(axis=1)])

    def predict_probabilities(self, images: Images, num_classes: int) -> Scores:
        """Shares of all classes, float64 (N, K); those of support vector machines only rank."""
        shares = np.zeros((len(images), num_classes))
        shares[:, self._classes] = self._scores(images)
        return shares

    @property
    def _classes(self) -> Labels:
        return np.unique(self.task.labels)

    def _scores(self, images: Images) -> Scores:
        pixels = flatten(images)
        if not len(pixels):
            return np.zeros((0, len(self._classes)))
        with _quiet():
            scores = self.predictor(pixels).astype(np.float64)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def majority_class(task: BaselineTask) -> Predictor:
    """Always the commonest label; the first of several."""
    counts = np.unique(task.labels, return_counts=True)[1]
    return lambda pixels: np.tile(counts / counts.sum(), (len(pixels), 1))


def nearest_neighbour(task: BaselineTask) -> Predictor:
    """The label of the image with the least Euclidean distance in pixels."""
    model = KNeighborsClassifier(n_neighbors=1, algorithm="brute").fit(task.pixels, task.labels)
    return _predictor(model)


def logistic_regression_pixels(task: BaselineTask) -> Predictor:
    """Multinomial logistic regression with an L2 penalty on pixels."""
    mean, length = task.scale
    return _logistic_regression(task, lambda pixels: (pixels - mean) / length)


def logistic_regression_pca(task: BaselineTask) -> Predictor:
    """The same on principal components of all images."""
    _, length = task.scale
    return _logistic_regression(task, lambda pixels: task.components(pixels) / length)


def svm_pixels(task: BaselineTask) -> Predictor:
    """A support vector machine with a Gaussian kernel on pixels.

    The kernel has the width that scikit-learn calls "scale". It is computed beforehand by matrix
    products, which is several times faster than inside libsvm.
    """
    known = task.pixels
    width = 1 / (known.shape[1] * (float(known.var()) or 1.0))
    model = SVC(C=3, kernel="precomputed")
    model.fit(rbf_kernel(known, known, gamma=width), task.labels)
    return _predictor(model, lambda pixels: rbf_kernel(pixels, known, gamma=width))


def svm_pca(task: BaselineTask) -> Predictor:
    """The same kernel on principal components of all images."""
    model = SVC(C=3).fit(task.components(task.pixels), task.labels)
    return _predictor(model, task.components)


BASELINES: dict[str, Callable[[BaselineTask], Predictor]] = {
    "majority_class": majority_class,
    "nearest_neighbour": nearest_neighbour,
    "logistic_regression_pixels": logistic_regression_pixels,
    "logistic_regression_pca": logistic_regression_pca,
    "svm_pixels": svm_pixels,
    "svm_pca": svm_pca,
}


def fit_baseline(
    name: str, images: Images, labels: Labels, pool_images: Images | Selection, *, seed: int
) -> FittedBaseline:
    """Fit one baseline; see `BaselineTask` for the arguments.

    Raises:
        UnknownNameError: `name` is not in `BASELINES`.
        DataError: no labels.
    """
    return fit_to(BaselineTask(images, labels, pool_images, seed), name)


def fit_to(task: BaselineTask, name: str) -> FittedBaseline:
    """Fit one baseline to a task.

    Raises:
        UnknownNameError: `name` is not in `BASELINES`.
    """
    fit = find(BASELINES, name, "baseline")
    # One class leaves nothing to separate, and scikit-learn refuses it.
    single_class = len(np.unique(task.labels)) == 1
    with _quiet():
        predictor = majority_class(task) if single_class else fit(task)
    return FittedBaseline(name, predictor, task)


def run_baselines(
    images: Images,
    labels: Labels,
    pool_images: Images | Selection,
    evaluation_images: Images,
    evaluation_labels: Labels,
    *,
    seed: int,
) -> list[BaselineResult]:
    """Fit every baseline on the labels and judge it on other images.

    Args:
        images: uint8 or float32 (N, C, H, W), with labels.
        labels: int64 (N,), at least 0.
        pool_images: all images but those of the test set, for PCA.
        evaluation_images: (M, C, H, W), what to judge on.
        evaluation_labels: int64 (M,).
        seed: of every draw.

    Returns:
        One result for each entry of `BASELINES`, in its order.

    Raises:
        DataError: no labels, or nothing to judge on.
    """
    if not len(evaluation_labels):
        raise DataError("Baselines need labelled images to be judged on, and there are none.")
    task = BaselineTask(images, labels, pool_images, seed)
    results = []
    for name in BASELINES:
        start = time.perf_counter()
        fitted = fit_to(task, name)
        num_correct = int(np.sum(fitted.predict(evaluation_images) == evaluation_labels))
        results.append(
            BaselineResult(
                name=name,
                accuracy=num_correct / len(evaluation_labels),
                num_correct=num_correct,
                n=len(evaluation_labels),
                num_labels=fitted.num_labels,
                seconds=time.perf_counter() - start,
                note=fitted.note,
            )
        )
    return results


def together(results: Sequence[BaselineResult]) -> BaselineResult:
    """One baseline's results over all turns as one."""
    n = sum(one.n for one in results)
    num_correct = sum(one.num_correct for one in results)
    return BaselineResult(
        name=results[0].name,
        accuracy=num_correct / n,
        num_correct=num_correct,
        n=n,
        num_labels=max(one.num_labels for one in results),
        seconds=sum(one.seconds for one in results),
        note=results[0].note,
    )


def _logistic_regression(task: BaselineTask, prepare: Callable[[Pixels], Pixels]) -> Predictor:
    # Inputs have length 1 on average, so one C suits 64 pixels and 3,000.
    model = LogisticRegression(C=10, max_iter=500)
    return _predictor(model.fit(prepare(task.pixels), task.labels), prepare)


def _predictor(model: Any, prepare: Callable[[Pixels], Pixels] = np.asarray) -> Predictor:
    def shares(pixels: Pixels) -> Scores:
        ready = prepare(pixels)
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(ready))
        margins = model.decision_function(ready)
        if margins.ndim == 1:  # of two classes, the margin of the second
            margins = np.stack([-margins, margins], axis=1)
        # Votes between pairs of classes decide, which the margins do not always agree with.
        decided = np.searchsorted(model.classes_, model.predict(ready))
        margins[np.arange(len(margins)), decided] = margins.max(axis=1) + 1e-3
        return np.asarray(softmax(margins, axis=1))

    def predict(pixels: Pixels) -> Scores:
        # In pieces, as a kernel over all images at once could fill the memory.
        pieces = range(0, len(pixels), CHUNK)
        return np.concatenate([shares(pixels[i : i + CHUNK]) for i in pieces])

    return predict


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what a user can do nothing about: slow convergence, constant pixels."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
