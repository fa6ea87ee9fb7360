"""How close made images are to real ones, in the features of a classifier of one's own.

These are not the literature's figures with the same names, which use a network trained on ImageNet:
they can be compared with each other only where the classifier is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigvalsh
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 3
SURE = 0.9
"""Probability from which on an image counts as clearly of a class."""


@dataclass(frozen=True, kw_only=True)
class SampleQuality:
    """Made images beside real ones.

    Attributes:
        distance: Fréchet distance of the features.
        floor: the same between two halves of the real images: as good as it can get.
        precision: share of the made images that lie among real ones.
        recall: share of the real images that lie among made ones.
        sure: share of the made images that the classifier takes for a class with a probability
            above 0.9.
        shares: of the classes among the made images, (K,).
    """

    distance: float
    floor: float
    precision: float
    recall: float
    sure: float
    shares: tuple[float, ...]


def frechet_distance(real: npt.NDArray[Any], made: npt.NDArray[Any]) -> float:
    """``|m - m'|² + tr(S + S' - 2 (S S')^½)`` of means and covariances of features (N, D).

    It is the distance of the two normal distributions (Dowson and Landau, 1982), used for images in
    GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017).
    """
    first, second = (
        np.cov(features, rowvar=False).reshape(features.shape[1], -1) for features in (real, made)
    )
    gap = real.mean(axis=0) - made.mean(axis=0)
    # tr (S S')^½ is the sum of the roots of the eigenvalues of S^½ S' S^½, which is symmetric.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    crossed = np.sqrt(eigvalsh(root @ second @ root).clip(0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * crossed)


def precision_recall(
    real: npt.NDArray[Any], made: npt.NDArray[Any], neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Shares of made features among real ones and the reverse.

    A point lies among others where it is nearer to one of them than that one's k-th neighbour.

    Args:
        real: (N, D).
        made: (M, D).
        neighbours: k.

    Source: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et
    al., 2019).
    """
    return _among(made, real, neighbours), _among(real, made, neighbours)


def _among(points: npt.NDArray[Any], others: npt.NDArray[Any], neighbours: int) -> float:
    near = NearestNeighbors(n_neighbors=neighbours + 1).fit(others)
    radii = near.kneighbors(others)[0][:, -1]  # the first neighbour is the point itself
    inside = [bool((np.linalg.norm(others - point, axis=1) <= radii).any()) for point in points]
    return float(np.mean(inside))


def judge_samples(
    real: npt.NDArray[Any], made: npt.NDArray[Any], probabilities: npt.NDArray[Any]
) -> SampleQuality:
    """All figures.

    Args:
        real: features (N, D) of real images in random order.
        made: features (M, D) of made images.
        probabilities: (M, K), what the classifier takes the made images for.
    """
    half = len(real) // 2
    precision, recall = precision_recall(real[:half], made)
    num_classes = probabilities.shape[1]
    counts = np.bincount(probabilities.argmax(axis=1), minlength=num_classes)
    return SampleQuality(
        distance=frechet_distance(real[:half], made),
        floor=frechet_distance(real[:half], real[half:]),
        precision=precision,
        recall=recall,
        sure=float((probabilities.max(axis=1) > SURE).mean()),
        shares=tuple(float(count) / len(made) for count in counts),
    )
