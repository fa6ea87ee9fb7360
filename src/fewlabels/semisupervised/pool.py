"""Looking at all unlabelled images at once, between steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.selection import Images, select
from fewlabels.evaluation.predict import evaluating
from fewlabels.semisupervised.objective import Task

_IMAGES_AT_ONCE = 1_024


def probabilities(classifier: nn.Module, images: Images) -> Tensor:
    """Softmax of the logits in evaluation mode, float32 (N, K), on the classifier's device."""
    return torch.cat([part.float().softmax(dim=1) for part in _outputs(classifier, images)])


def features(encoder: nn.Module, images: Images) -> Tensor:
    """An encoder's features in evaluation mode, float32 (N, D), on its device."""
    return torch.cat([part.float() for part in _outputs(encoder, images)])


def nodes(
    encoder: nn.Module, task: Task, count: int, rng: np.random.Generator
) -> tuple[Tensor, npt.NDArray[np.intp]]:
    """Features of the labelled images and of a draw of the unlabelled ones.

    Args:
        encoder: whose features.
        task: holds the images.
        count: unlabelled images at most.
        rng: draws them.

    Returns:
        float32 (M + N, D), the M labelled images first, and the positions of the N drawn.
    """
    order = rng.permutation(len(task.unlabelled))
    drawn = np.sort(order[: max(1, count)])
    unknown = features(encoder, select(task.unlabelled, drawn))
    return torch.cat([features(encoder, task.images), unknown]), drawn


def _outputs(network: nn.Module, images: Images) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    with evaluating(network), torch.no_grad():
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            pixels = as_tensor(images[start : start + _IMAGES_AT_ONCE]).to(device)
            yield network(to_float(pixels))
