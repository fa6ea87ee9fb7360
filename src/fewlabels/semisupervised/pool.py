"""Looking at all unlabelled images at once, between steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.selection import Images
from fewlabels.evaluation.predict import evaluating

_IMAGES_AT_ONCE = 1_024


def probabilities(classifier: nn.Module, images: Images) -> Tensor:
    """Softmax of the logits in evaluation mode, float32 (N, K), on the classifier's device."""
    return torch.cat([part.float().softmax(dim=1) for part in _outputs(classifier, images)])


def features(encoder: nn.Module, images: Images) -> Tensor:
    """An encoder's features in evaluation mode, float32 (N, D), on its device."""
    return torch.cat([part.float() for part in _outputs(encoder, images)])


def _outputs(network: nn.Module, images: Images) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    with evaluating(network), torch.no_grad():
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            pixels = as_tensor(images[start : start + _IMAGES_AT_ONCE]).to(device)
            yield network(to_float(pixels))
