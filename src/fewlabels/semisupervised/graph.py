"""A graph of nearest neighbours among features."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor
from torch.nn import functional as F

_ROWS_AT_ONCE = 1_024
_MOST_ITERATIONS = 100
_BALANCING_ROUNDS = 50


def principal_components(features: Tensor, count: int = 256) -> Tensor:
    """The leading components of centred features; their cosines are nearly those of all.

    Args:
        features: float32 (N, D).
        count: how many, where there are so many.

    Returns:
        float32 (N, min(count, N, D)) on the same device.
    """
    most = min(count, *features.shape)
    found = PCA(most, svd_solver="covariance_eigh").fit_transform(features.cpu().numpy())
    return torch.from_numpy(found).to(features)


def neighbours(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nodes most similar to each node, itself left out.

    Args:
        features: float32 (N, D).
        count: k, below N.

    Returns:
        Positions int64 (N, k), nearest first, and cosine similarities float32 (N, k).
    """
    directions = F.normalize(features, dim=1)
    positions, similarities = [], []
    for start in range(0, len(directions), _ROWS_AT_ONCE):
        rows = directions[start : start + _ROWS_AT_ONCE] @ directions.T
        places = torch.arange(len(rows), device=rows.device)
        rows[places, start + places] = -torch.inf
        best = rows.topk(count, dim=1)
        positions.append(best.indices)
        similarities.append(best.values)
    return torch.cat(positions), torch.cat(similarities)


def affinity(
    positions: Tensor, similarities: Tensor, power: float = 3.0
) -> scipy.sparse.csr_matrix:
    """Symmetric weights ``max(0, cosine)^power`` between neighbours, sparse (N, N).

    Source of the power: Label Propagation for Deep Semi-supervised Learning (Iscen et al., 2019).
    """
    num_nodes, count = positions.shape
    rows = np.repeat(np.arange(num_nodes), count)
    weights = similarities.clamp_min(0).pow(power).flatten().cpu().numpy().astype(np.float64)
    columns = positions.flatten().cpu().numpy()
    one_way = scipy.sparse.csr_matrix((weights, (rows, columns)), shape=(num_nodes, num_nodes))
    return (one_way + one_way.T) / 2


def propagate(
    graph: scipy.sparse.csr_matrix, labels: Tensor, num_classes: int, alpha: float
) -> Tensor:
    """A hundred rounds of ``Z <- a S Z + (1 - a) Y`` from ``Z = Y``, rows scaled to 1.

    S are the graph's normalised affinities. The limit is ``(1 - a) (1 - a S)^-1 Y``; where a is
    near 1 the rounds end long before it, which leaves more to the near labels. Computed by
    scikit-learn's `LabelSpreading`, which stops earlier where nothing changes any more.

    Source: Learning with Local and Global Consistency (Zhou et al., 2004).

    Args:
        graph: affinities, sparse (N, N).
        labels: int64 (M,), of the first M nodes.
        num_classes: K.
        alpha: how much a node takes from its neighbours rather than from its own label.

    Returns:
        float32 (N, K) on the CPU; uniform where no label reaches.
    """
    num_nodes = graph.shape[0]
    known = np.full(num_nodes, -1)
    known[: len(labels)] = labels.cpu().numpy()
    spreading = LabelSpreading(
        kernel=lambda first, second=None: graph, alpha=alpha, max_iter=_MOST_ITERATIONS
    )
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        spreading.fit(np.zeros((num_nodes, 1)), known)
    found = torch.from_numpy(spreading.label_distributions_).float().nan_to_num(0.0)
    shares = torch.zeros(num_nodes, num_classes)
    shares[:, torch.from_numpy(spreading.classes_)] = found
    unreached = shares.sum(dim=1, keepdim=True) < 0.5
    return torch.where(unreached, torch.full_like(shares, 1 / num_classes), shares)


def balanced(shares: Tensor, prior: Tensor) -> Tensor:
    """Rows that sum to 1 in columns whose sums have the shares of the prior.

    Args:
        shares: float32 (N, K), not negative.
        prior: float32 (K,), sum 1.

    Source: Concerning nonnegative matrices and doubly stochastic matrices (Sinkhorn and Knopp,
    1967).
    """
    for _ in range(_BALANCING_ROUNDS):
        shares = shares * (prior / shares.mean(dim=0).clamp_min(1e-12))
        shares = F.normalize(shares, p=1.0, dim=1)
    return shares
