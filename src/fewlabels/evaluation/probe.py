"""How good features are, by simple classifiers on a few labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_LABELS = 1_000
MOST_FOLDS = 5
NEIGHBOURS = 5


def linear_probe() -> ClassifierMixin:
    """A logistic regression on standardised features.

    Source: Understanding Intermediate Layers Using Linear Classifier Probes (Alain and Bengio,
    2017).
    """
    probe: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return probe


def probe_features(
    features: npt.NDArray[Any], labels: npt.NDArray[np.int64], seed: int
) -> dict[str, float]:
    """Cross-validated accuracies of a linear classifier and of the five nearest neighbours.

    Every image is predicted once, by classifiers that have not seen it.

    Args:
        features: float (N, D).
        labels: int64 (N,), none missing; of more than 1,000, as many are drawn.
        seed: of the draw and of the folds.

    Returns:
        "probe_accuracy" and "neighbours_accuracy", shares; nothing where a class has one label or
        there is one class.
    """
    if len(labels) > MAX_LABELS:
        chosen = np.random.default_rng(seed).permutation(len(labels))[:MAX_LABELS]
        features, labels = features[chosen], labels[chosen]
    seed %= 2**32  # all that scikit-learn takes
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        return {}
    folds = StratifiedKFold(min(MOST_FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    smallest = len(labels) - -(-len(labels) // folds.get_n_splits())
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, smallest), metric="cosine")
    classifiers = {"probe_accuracy": linear_probe(), "neighbours_accuracy": neighbours}
    return {
        name: float((cross_val_predict(one, features, labels, cv=folds) == labels).mean())
        for name, one in classifiers.items()
    }
